"""Every kind of norm layer that can be converted, with an input shape and its presets."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from robustsabn.layers import PRESETS

__all__ = ["BATCH_NORMS", "CASES", "LAYERS"]

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bn1d": (lambda: nn.BatchNorm1d(6), (5, 6)),
    "bn1d-sequence": (lambda: nn.BatchNorm1d(6), (5, 6, 4)),
    "bn2d": (lambda: nn.BatchNorm2d(6), (5, 6, 3, 4)),
    "bn2d-eps-momentum": (lambda: nn.BatchNorm2d(6, eps=0.1, momentum=0.3), (5, 6, 3, 4)),
    "bn2d-cumulative": (lambda: nn.BatchNorm2d(6, momentum=None), (5, 6, 3, 4)),
    "bn2d-untracked": (lambda: nn.BatchNorm2d(6, track_running_stats=False), (5, 6, 3, 4)),
    "bn3d": (lambda: nn.BatchNorm3d(6), (5, 6, 2, 3, 4)),
    "sync": (lambda: nn.SyncBatchNorm(6), (5, 6, 3, 4)),
    "layer": (lambda: nn.LayerNorm([3, 4], eps=0.1), (5, 6, 3, 4)),
    "layer-no-bias": (lambda: nn.LayerNorm(4, bias=False), (5, 6, 4)),
    "group": (lambda: nn.GroupNorm(3, 6), (5, 6, 3, 4)),
    "instance1d": (lambda: nn.InstanceNorm1d(6, affine=True), (5, 6, 4)),
    "instance2d": (lambda: nn.InstanceNorm2d(6, affine=True), (5, 6, 3, 4)),
    "instance3d": (lambda: nn.InstanceNorm3d(6, affine=True), (5, 6, 2, 3, 4)),
}
BATCH_NORMS = [name for name in LAYERS if name.startswith(("bn", "sync"))]
CASES = [(layer, norm) for layer in LAYERS for norm in PRESETS if norm != "bn" or layer in BATCH_NORMS]
