"""A run that has come to NaN or infinity stops, before that is saved, and keeps the batch at which it began."""

import math
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from robustsabn.errors import TrainingError
from robustsabn.trainers.batches import Batches
from robustsabn.trainers.processes import reduced

__all__ = ["Guard"]

_NEVER = 2**62


class Guard:
    """Remembers on the device, without waiting for it, the first step whose loss was not finite."""

    def __init__(self, accelerator: Accelerator, batches: Batches, folder: Path) -> None:
        self.accelerator, self.batches, self.folder = accelerator, batches, folder
        self.first = torch.full((1,), _NEVER, device=accelerator.device)

    def watch(self, step: int, loss: Tensor) -> None:
        """Note the loss () of step `step`, from 0."""
        self.first = torch.where(loss.detach().isfinite(), self.first, self.first.clamp(max=step))

    def check_loss(self, mean: float) -> None:
        """TrainingError unless the mean loss since the last check, over all processes, is finite."""
        if not math.isfinite(mean):
            first = self.accelerator.gather(self.first)
            assert isinstance(first, Tensor)
            self._stop(int(first.min()), f"the loss is {mean}")

    def check_weights(self, step: int, model: nn.Module) -> None:
        """TrainingError unless every parameter and buffer of every process is finite after step `step`."""
        tensors = [t for t in model.state_dict().values() if t.is_floating_point()]
        bad = torch.stack([~t.isfinite().all() for t in tensors]).sum().float()
        if reduced(self.accelerator, bad, "sum"):  # statistics are each process's own
            self._stop(step, "the update gives weights that are NaN or infinite")

    def _stop(self, step: int, what: str) -> NoReturn:
        file = self.folder / f"batch-of-step-{step + 1}.safetensors"
        if self.accelerator.is_main_process:
            save_file(self.batches.whole(step), file)
        self.accelerator.wait_for_everyone()  # or a launcher would end the main process in the middle of it
        raise TrainingError(
            f"{what} at step {step + 1}, whose images, labels and their places in the training set are in {file}; "
            "lower optim.lr, set optim.clip, or train in fp32 (checkpoints are from before that step)"
        )
