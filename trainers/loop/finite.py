"""Stops a run whose loss or weights become NaN or infinite, and saves the batch where that began."""

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
    """Records the first step whose loss or weights were not finite, without synchronising the device."""

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
        networks: Sequence[nn.Module],
        batch: Callable[[int], dict[str, Tensor]],
        remedy: str,
    ) -> None:
        """Save what `batch(step)` returns in `folder` on failure; `remedy` is advice for the user."""
        self.accelerator, self.batch, self.folder, self.remedy = accelerator, batch, folder, remedy
        self.weights = [p for network in networks for p in network.parameters() if p.requires_grad]
        named = [pair for network in networks for pair in network.state_dict(keep_vars=True).items()]
        self.statistics = [t for name, t in named if name.endswith(("running_mean", "running_var"))]
        self.first = torch.full((2,), _NEVER, device=accelerator.device)

    def watch(self, step: int, loss: Tensor) -> None:
        """Check the loss () of step `step`, counted from 0, and the weights after it."""
        values = torch.stack([loss.detach().float(), get_total_norm(self.weights).float()])
        self.first = torch.where(values.isfinite(), self.first, self.first.clamp(max=step))

    def check_loss(self, mean: float) -> None:
        """Raise TrainingError unless `mean`, the mean loss since the last check, is finite.

        It is the mean over all processes.
        """
        if not math.isfinite(mean):
            loss, weights = self._first()
            before = ", after an update that gave weights that are NaN or infinite" if weights < loss else ""
            self._stop(min(loss, weights), f"the loss is {mean}{before}")

    def check_weights(self, step: int) -> None:
        """Raise TrainingError unless all weights and running statistics are finite after step `step`.

        Those of every process are checked.
        """
        tensors = [t for t in (*self.weights, *self.statistics) if t.is_floating_point()]
        bad = torch.stack([~t.isfinite().all() for t in tensors]).sum().float()
        if reduced(self.accelerator, bad, "sum"):  # each process has its own statistics
            self._stop(min(step, self._first()[1]), "the update gives weights that are NaN or infinite")

    def _first(self) -> list[int]:
        firsts_by_process = self.accelerator.gather(self.first)
        assert isinstance(firsts_by_process, Tensor)
        firsts: list[int] = firsts_by_process.view(-1, 2).amin(0).tolist()
        return firsts

    def _stop(self, step: int, what: str) -> NoReturn:
        file = self.folder / f"batch-of-step-{step + 1}.safetensors"
        if self.accelerator.is_main_process:
            with replacing(file) as aside:
                save_file(self.batch(step), aside)
        self.accelerator.wait_for_everyone()  # otherwise a launcher may end the main process while it writes
        raise TrainingError(
            f"{what} at step {step + 1}, whose images, labels and their places in the training set are in "
            f"{file}; {self.remedy} (checkpoints are from before that step)"
        )
