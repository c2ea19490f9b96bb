"""Whether a model gives the same logits as at the start of an evaluation; equal weights do not imply it."""

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

# Tolerances relative to the largest logit. Other devices and thread counts differ by about 1e-5 in float32.
_FLOAT32, _HALF = 1e-3, 5e-2


@dataclass(frozen=True)
class Answers:
    """Logits (N, K) of the clean images by the original model, on the CPU.

    `randomised`: the model is random. `half`: its weights are in half precision, which rounds coarsely.
    """

    logits: Tensor
    randomised: bool = False
    half: bool = False

    def write(self, path: Path) -> None:
        """Write them to a safetensors file, as a whole or not at all."""
        tensors = {"logits": self.logits.contiguous(), "randomised": torch.tensor(self.randomised)}
        with replacing(path) as aside:
            save_file(tensors, aside)

    def check(self, path: Path) -> None:
        """Raise InputError where the logits in `path` differ beyond rounding; those of a random model may."""
        try:
            kept = load_file(path)
            before, noisy = kept["logits"], bool(kept["randomised"])
            if before.ndim != 2 or not before.is_floating_point():
                raise ValueError(f"logits of shape {tuple(before.shape)}")
        except (OSError, KeyError, RuntimeError, SafetensorError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); start again in another folder") from None
        if noisy and self.randomised:
            return
        count = len(before)
        if before.shape == self.logits.shape:
            count = int(self.apart(before).sum())
        if count:
            raise InputError(
                f"{path.parent} belongs to another model: {count} of {len(before)} clean images get other "
                "logits now, beyond rounding, although the weights may be equal; resume with the model it "
                "was started with, or give another folder"
            )

    def contradict(self, logits: Tensor, y: Tensor) -> Tensor:
        """Bool (M,): adversarial images that `logits` (M, K) classify correctly, beyond rounding."""
        return ~usable(logits) | (-margin(logits, y) > self._slack(logits))

    def apart(self, before: Tensor) -> Tensor:
        """Bool (N,): images whose logits differ from `before` (N, K), beyond rounding."""
        now, slack = self.logits, self._slack(before)[:, None]
        equal = ((now - before).abs() <= slack) | (now == before) | (now.isnan() & before.isnan())
        return ~equal.all(1)

    def _slack(self, logits: Tensor) -> Tensor:
        """Tolerance of each row (M,): a share of its largest logit, at least of the median largest logit."""
        usual = _largest(self.logits).median()
        return _largest(logits).maximum(usual) * (_HALF if self.half else _FLOAT32)


def _largest(logits: Tensor) -> Tensor:
    return logits.abs().nan_to_num(0.0, 0.0, 0.0).amax(1)
