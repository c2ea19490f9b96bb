"""The norms of a generator by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.layers import CCBN2d, CCIN2d, RoutedBatchNorm2d, SaBN2d, SaIN2d
from robustsabn.layers.affine import Init
from robustsabn.routing import Router
from robustsabn.text import nearest, quote

__all__ = ["NORMS", "MakeNorm", "norms"]

MakeNorm = Callable[[int], nn.Module]
"""From a number of channels to a layer."""

NORMS: dict[str, Callable[..., nn.Module]] = {
    "bn": partial(RoutedBatchNorm2d, affine="shared"),
    "ccbn": CCBN2d,
    "sabn": SaBN2d,
    "ccin": CCIN2d,
    "sain": SaIN2d,
}


def norms(norm: str, router: Router, init: Init = "paper") -> MakeNorm:
    """A function that makes the norms of a generator, all with one router; ModelError for an unknown name.

    bn: batch norm with one affine for all classes; ccbn: one affine per class; sabn: a shared affine, then
    one per class; ccin, sain: the same with instance statistics. `init` "paper" draws the scales of classes
    from N(1, 0.02)."""
    if not isinstance(norm, str) or norm not in NORMS:
        raise ModelError(f"norm={quote(norm)}{nearest(norm, NORMS)}; allowed: {', '.join(NORMS)}")
    return partial(NORMS[norm], router=router, condition=router.condition, init=init)
