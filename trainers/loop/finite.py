"""A run that has come to NaN or infinity stops, before that is saved, and keeps the batch at which it
began.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from robustsabn.errors import TrainingError
from robustsabn.files import replacing
from robustsabn.trainers.processes.distributed import reduced

__all__ = ["Guard"]

_NEVER = 2**62


class Guard:
    """Remembers on the device, without waiting for it, the first step whose loss or weights were not
    finite.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
        networks: Sequence[nn.Module],
        batch: Callable[[int], dict[str, Tensor]],
        remedy: str,
    ) -> None:
        """`batch` gives what is to be kept of the batch of a step, `folder` is where, `remedy` says what may
        help.
        """
        self.accelerator, self.batch, self.folder, self.remedy = accelerator, batch, folder, remedy
        self.weights = [p for network in networks for p in network.parameters() if p.requires_grad]
        named = [pair for network in networks for pair in network.state_dict(keep_vars=True).items()]
        self.statistics = [t for name, t in named if name.endswith(("running_mean", "running_var"))]
        self.first = torch.full((2,), _NEVER, device=accelerator.device)

    def watch(self, step: int, loss: Tensor) -> None:
        """Note the loss () of step `step`, from 0, and the weights after it."""
        found = torch.stack([loss.detach().float(), get_total_norm(self.weights).float()])
        self.first = torch.where(found.isfinite(), self.first, self.first.clamp(max=step))

    def check_loss(self, mean: float) -> None:
        """TrainingError unless the mean loss since the last check, over all processes, is finite."""
        if not math.isfinite(mean):
            loss, weights = self._first()
            before = ", after an update that gave weights that are NaN or infinite" if weights < loss else ""
            self._stop(min(loss, weights), f"the loss is {mean}{before}")

    def check_weights(self, step: int) -> None:
        """TrainingError unless every trained parameter and running statistic of every process is finite
        after step `step`.
        """
        tensors = [t for t in (*self.weights, *self.statistics) if t.is_floating_point()]
        bad = torch.stack([~t.isfinite().all() for t in tensors]).sum().float()
        if reduced(self.accelerator, bad, "sum"):  # statistics are each process's own
            self._stop(min(step, self._first()[1]), "the update gives weights that are NaN or infinite")

    def _first(self) -> list[int]:
        found = self.accelerator.gather(self.first)
        assert isinstance(found, Tensor)
        firsts: list[int] = found.view(-1, 2).amin(0).tolist()
        return firsts

    def _stop(self, step: int, what: str) -> NoReturn:
        file = self.folder / f"batch-of-step-{step + 1}.safetensors"
        if self.accelerator.is_main_process:
            with replacing(file) as aside:
                save_file(self.batch(step), aside)
        self.accelerator.wait_for_everyone()  # or a launcher would end the main process in the middle of it
        raise TrainingError(
            f"{what} at step {step + 1}, whose images, labels and their places in the training set are in "
            f"{file}; {self.remedy} (checkpoints are from before that step)"
        )
