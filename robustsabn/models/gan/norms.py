"""The norms of a generator by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.layers import PRESETS, RoutedBatchNorm2d, RoutedInstanceNorm2d
from robustsabn.layers.affine import Init
from robustsabn.routing import Router
from robustsabn.text import nearest, quote

__all__ = ["NORMS", "MakeNorm", "norms"]

MakeNorm = Callable[[int], nn.Module]
"""From a number of channels to a layer."""

NORMS = ("bn", "ccbn", "sabn", "ccin", "sain")


def norms(norm: str, router: Router, affine_init: Init = "paper") -> MakeNorm:
    """What makes the norms of a generator, all on one router; ModelError for an unknown name.

    bn: batch norm with one affine for all classes; ccbn: one affine per class; sabn: a shared affine, then one per class;
    ccin, sain: the same with instance statistics. `affine_init` "paper" draws the scales from N(1, 0.02).
    """
    if not isinstance(norm, str) or norm not in NORMS:
        raise ModelError(f"norm={quote(norm)}{nearest(norm, NORMS)}; allowed: {', '.join(NORMS)}")
    settings: dict[str, Any] = {"init": affine_init, "router": router}
    if norm in PRESETS:
        settings |= PRESETS[norm]._asdict()
        return lambda channels: RoutedBatchNorm2d(channels, **settings)
    settings["affine"] = "sandwich" if norm == "sain" else "independent"
    return lambda channels: RoutedInstanceNorm2d(channels, **settings)
