"""The network that other libraries attack, and protection of the caller's state while they run."""

import contextlib
import io
import random
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from robustsabn.attacks.model.logits import Gate, Model
from robustsabn.attacks.model.mode import attack_mode

__all__ = ["Network", "undisturbed"]


class Network(nn.Module):
    """`model` as a module that gives float32 logits (N, K) for images like `x`, and counts images.

    `forwards` and `backwards` count the images that went through it forward and backward.
    """

    def __init__(self, model: Model, x: Tensor) -> None:
        super().__init__()
        self.model = model  # a submodule if it is a module, so that libraries find its parameters
        self._logits_of = Gate(model, x)
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits = self._logits_of(x).float()
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def costs(self) -> tuple[int, int]:
        """Forwards and backwards since the last call."""
        counts = self.forwards, self.backwards
        self.forwards = self.backwards = 0
        return counts


@contextlib.contextmanager
def undisturbed(network: Network, device: torch.device, seed: int) -> Iterator[io.StringIO]:
    """Set random generators by `seed` and use eval mode inside the block; restore the state after it.

    Restored are random states (torch, the device, numpy, Python), module modes, buffers, `.grad` of
    parameters, and the trace function. Printed text goes into the stream that `with` returns; warnings are
    dropped."""
    numpy_state, python_state, trace = np.random.get_state(), random.getstate(), sys.gettrace()
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    devices = [device] if device.type == "cuda" else []
    printed = io.StringIO()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            attack_mode(network),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield printed
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        sys.settrace(trace)
