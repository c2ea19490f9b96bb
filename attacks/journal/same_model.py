"""Whether a model answers as it did when an evaluation was begun: equal weights do not make equal networks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustsabn.attacks.losses import margin
from robustsabn.attacks.model.inputs import usable
from robustsabn.errors import InputError
from robustsabn.files import replacing

__all__ = ["Answers"]

# Of the largest logits. Other devices and thread counts round differently, by about 1e-5 of them in float32.
_FLOAT32, _HALF = 1e-3, 5e-2


@dataclass(frozen=True)
class Answers:
    """Logits (N, K) of the clean images by the untouched model, on the CPU.

    `randomised`: asked again it gives others. `half`: its weights are in half precision, and rounding is coarse.
    """

    logits: Tensor
    randomised: bool = False
    half: bool = False

    def write(self, path: Path) -> None:
        """Keep them in a safetensors file, written aside and renamed."""
        tensors = {"logits": self.logits.contiguous(), "randomised": torch.tensor(self.randomised)}
        with replacing(path) as aside:
            save_file(tensors, aside)

    def check(self, path: Path) -> None:
        """InputError where those kept in `path` differ by more than rounding; a randomised model may differ."""
        try:
            kept = load_file(path)
            before, noisy = kept["logits"], bool(kept["randomised"])
            if before.ndim != 2 or not before.is_floating_point():
                raise ValueError(f"logits of shape {tuple(before.shape)}")
        except (OSError, KeyError, RuntimeError, SafetensorError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); begin again in another folder") from None
        if noisy and self.randomised:
            return
        count = len(before)
        if before.shape == self.logits.shape:
            count = int(self.apart(before).sum())
        if count:
            raise InputError(
                f"{path.parent} belongs to another model: {count} of {len(before)} clean images get other logits now, "
                "beyond rounding, though the weights may be equal; resume with the model that it was begun with, or "
                "name another folder"
            )

    def contradict(self, logits: Tensor, y: Tensor) -> Tensor:
        """Bool (M,): images that broke their points, says a journal, and are classified right by `logits` (M, K).

        Margins within rounding of zero contradict nothing.
        """
        return ~usable(logits) | (-margin(logits, y) > self._slack(logits))

    def apart(self, before: Tensor) -> Tensor:
        """Bool (N,): images that got other logits `before` (N, K), beyond rounding."""
        now, slack = self.logits, self._slack(before)[:, None]
        alike = ((now - before).abs() <= slack) | (now == before) | (now.isnan() & before.isnan())
        return ~alike.all(1)

    def _slack(self, logits: Tensor) -> Tensor:
        """What rounding may do to each row (M,): a share of its largest logit, or of the usual largest one."""
        usual = _largest(self.logits).median()
        return _largest(logits).maximum(usual) * (_HALF if self.half else _FLOAT32)


def _largest(logits: Tensor) -> Tensor:
    return logits.abs().nan_to_num(0.0, 0.0, 0.0).amax(1)
