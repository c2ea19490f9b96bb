"""Gain and bias as linear maps of a vector for each sample (BigGAN, arXiv 1809.11096)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.devices import autocast_dtype
from robustsabn.errors import RouteError
from robustsabn.routing import Resolved, is_condition

__all__ = ["affine_of_condition", "linear_map"]


def linear_map(
    condition: int, shape: Sequence[int], device: torch.device | None, dtype: torch.dtype | None
) -> nn.Linear:
    """A linear map W (prod(S), D) without bias, not initialised; torch's `spectral_norm`s work on it."""
    with torch.no_grad():
        linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear,
            condition,
            math.prod(shape),
            bias=False,
            device=device or torch.get_default_device(),
            dtype=dtype,
        )
    return linear


def affine_of_condition(layer: Any, selection: Resolved) -> tuple[Tensor, Tensor | None]:
    """`g = 1 + W_g y` and `b = W_b y` for the selected vectors y (N, D), each (N, *S), without autocast."""
    gain, bias = layer.condition_gain, layer.condition_bias
    if not is_condition(selection):
        raise RouteError(
            f"{type(layer).__name__} of condition={layer.router.condition} takes its affine from vectors, "
            "and none are given; run the model inside `with route(model, Condition(y)):` with y (N, D)"
        )
    own = next(gain.parameters())
    kind = selection.device.type
    with torch.autocast(kind, enabled=False) if autocast_dtype(kind) else nullcontext():
        y = selection.to(own.device, own.dtype)  # a model can be on several devices
        g = gain(y) + 1
        b = None if bias is None else bias(y)
    if len(layer.shape) > 1:
        g, b = g.unflatten(1, layer.shape), None if b is None else b.unflatten(1, layer.shape)
    return g, b
