"""What a run does with its images and its weights besides training on them: keys of a recipe, defaults, ranges."""

from dataclasses import dataclass
from typing import Literal

from robustsabn.errors import ConfigError

__all__ = ["Augment", "Extra", "Swa", "check", "count"]


def check(fine: bool, message: str) -> None:
    """ConfigError with `message`, which begins with the key, unless `fine`."""
    if not fine:
        raise ConfigError(message)


def count(name: str, value: int | None, least: int = 1) -> None:
    """ConfigError unless `value` is left out or at least `least`."""
    check(value is None or value >= least, f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Augment:
    """Random crops of the image padded by `crop` pixels, and horizontal flips; then `mix`.

    `mix` makes every image, and its label, a mixture with another one of the batch, in shares from Beta(mix_alpha, mix_alpha).
    """

    crop: int = 0
    flip: bool = False
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_alpha: float = 1.0

    def __post_init__(self) -> None:
        count("crop", self.crop, 0)
        check(self.mix_alpha > 0, f"mix_alpha must be positive, got {self.mix_alpha:g}")


@dataclass(frozen=True)
class Extra:
    """Further images to train on, such as generated ones: the share `fraction` of every batch is of the data set `data`.

    Of a set in parts that is the training part, of one without all. Gowal et al., NeurIPS 2021, with fraction 0.7.
    """

    data: str
    fraction: float = 0.7

    def __post_init__(self) -> None:
        check(0 < self.fraction < 1, f"fraction is a share of the batch in (0, 1), got {self.fraction:g}")

    def count(self, batch_size: int) -> int:
        """How many images of a batch are extra ones."""
        return int(self.fraction * batch_size + 0.5)


@dataclass(frozen=True)
class Swa:
    """Equal average of the weights at the end of every `every`-th epoch from the fraction `start` of the run on, and at its end.

    Running statistics for it are those of `batches` batches of training images, at most one pass.
    """

    start: float = 0.75
    every: int = 1
    batches: int = 50

    def __post_init__(self) -> None:
        check(0 <= self.start <= 1, f"start is a fraction of the run in [0, 1], got {self.start:g}")
        count("every", self.every)
        count("batches", self.batches)
