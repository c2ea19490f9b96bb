"""What code of others is given, and what it must leave as it was."""

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
    """`model` as a module that gives float32 logits (N, K) for images like `x`, and counts them.

    `forwards` and `backwards`: images that went through it, and whose logits a gradient came back to.
    """

    def __init__(self, model: Model, x: Tensor) -> None:
        super().__init__()
        self.model = model  # registered where it is a module, so that its parameters are found
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
        found = self.forwards, self.backwards
        self.forwards = self.backwards = 0
        return found


@contextlib.contextmanager
def undisturbed(network: Network, device: torch.device, seed: int) -> Iterator[io.StringIO]:
    """Random numbers from `seed` and eval mode inside; afterwards everything as before.

    Kept: random states (torch, the device, numpy, Python), module modes, buffers, parameters' `.grad`, the trace
    function.
    What is printed inside goes into the stream that is given; warnings are dropped.
    """
    numpy_state, python_state, trace = np.random.get_state(), random.getstate(), sys.gettrace()
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    devices = [device] if device.type == "cuda" else []
    said = io.StringIO()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            attack_mode(network),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield said
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        sys.settrace(trace)
