"""The networks that `build` knows by name."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.models import resnet, wide
from robustsabn.models.nas.cell_network import nas_bench_201
from robustsabn.scalars import whole
from robustsabn.text import nearest, quote

__all__ = ["build", "names"]

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "preact-resnet18-sabn": resnet.preact_resnet18_sabn,
    "preact-resnet18": resnet.preact_resnet18,
    "resnet18": resnet.resnet18,
    "resnet-digits": resnet.resnet_digits,
    "resnet-small": resnet.resnet_small,
    "nas-bench-201": nas_bench_201,
    "wrn-28-10": wide.wrn_28_10,
    "wrn-34-10": wide.wrn_34_10,
}


MOST = 1_000_000
"""Most classes or channels of a network; a larger number is a typing error."""


def names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(_BUILDERS)


def build(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """A network with random weights and plain norms: images (N, in_channels, H, W) in [0, 1] to logits.

    options: `mean` and `std` of the normalisation inside the network, one value per channel; by default those
    of ImageNet for 3 channels, else 0.5. Those of nas-bench-201 are in `robustsabn.models.nas.nas_bench_201`.
    Raises ModelError for an unknown name or option, and for numbers below 1."""
    if not isinstance(name, str) or name not in _BUILDERS:
        raise ModelError(
            f"unknown network {quote(name)}{nearest(name, _BUILDERS)}; known: {', '.join(_BUILDERS)}"
        )
    if not all(0 < (whole(count) or 0) <= MOST for count in (num_classes, in_channels)):
        raise ModelError(
            f"{name} needs 1 to {MOST} classes and channels, not {quote(num_classes)} and "
            f"{quote(in_channels)}"
        )
    builder = _BUILDERS[name]
    known = [p.name for p in inspect.signature(builder).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ModelError(f"{name} has no option {quote(unknown[0])}; its options: {', '.join(known)}")
    return builder(num_classes, in_channels, **options)
