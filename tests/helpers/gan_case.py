"""A tiny GAN on a few digits, measured in features that cost nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

__all__ = ["TINY", "Coarse", "MakeNpz", "coarse", "columns", "tiny"]

MakeNpz = Callable[..., str]
"""From labels and a number of classes to the spec of a data set."""

TINY: dict[str, Any] = {
    "task": "gan",
    "data": "digits",
    "model": "digits",
    "model_options": {"width": 4, "d_width": 4, "latent_dim": 4},
    "images": 64,
    "batch_size": 16,
    "epochs": 2,
    "checkpoint_every": 3,
    "ema": 0.9,
    "generator": {"lr": 1e-3},
    "discriminator": {"lr": 1e-3},
    "validation": {"images": 40, "every": 1},
    "test": {"images": 40},
    "extractor": f"{Path(__file__)}:coarse",
    "judge": f"{Path(__file__)}:columns",
    "log_every": 2,
    "device": "cpu",
}


class Coarse(nn.Module):
    """The four quarters of an image as features, and a class by which rows are bright."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        quarters = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return quarters, nn.functional.adaptive_avg_pool2d(x, (10, 1)).flatten(1)


class Columns(Coarse):
    """The same of the image with rows and columns exchanged."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x.mT)


def coarse() -> nn.Module:
    """An extractor."""
    return Coarse()


def columns() -> nn.Module:
    """A judge."""
    return Columns()


def tiny(out: Path | str, **changes: Any) -> dict[str, Any]:
    """The configuration of a run in `out`."""
    return {**TINY, "out": str(out), **changes}
