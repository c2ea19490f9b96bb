"""A tiny run of style transfer on embedded pictures, and an encoder of one's own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OWN", "TINY", "Own", "own", "tiny"]

OWN = f"{Path(__file__)}:own"
TINY: dict[str, Any] = {
    "task": "style",
    "data": "embedded",
    "styles": "embedded:3",
    "encoder": OWN,
    "tap": "second",
    "crop": 16,
    "largest": 24,
    "batch_size": 2,
    "steps": 6,
    "reconstruct": 0.4,
    "optim": {"lr": 1e-3},
    "validation": {"images": 2, "every": 1},
    "checkpoint_every": 3,
    "log_every": 2,
    "device": "cpu",
}


class Own(nn.Module):
    """Three taps of a few channels, of which the norm of ILM+IN can group 16."""

    taps = ("first", "second", "third")
    channels = {"first": 4, "second": 16, "third": 8}  # noqa: RUF012
    stride = {"first": 1, "second": 2, "third": 4}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 16, 2, 2), nn.Conv2d(16, 8, 2, 2)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for tap, conv in zip(self.taps, self.convs, strict=True):
            found[tap] = x = conv(x).relu()
        return found


def own() -> nn.Module:
    """An encoder, always with the same weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Own()


def tiny(out: Path | str, **changes: Any) -> dict[str, Any]:
    """The configuration of a run in `out`."""
    return {**TINY, "out": str(out), **changes}
