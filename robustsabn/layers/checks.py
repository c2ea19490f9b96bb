"""Checks of inputs as in torch's own norms, for every selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustsabn.devices import holds
from robustsabn.errors import RouteError
from robustsabn.layers.moments import wide
from robustsabn.routing import Resolved, is_whole_batch
from robustsabn.text import quote

if TYPE_CHECKING:
    from robustsabn.layers.base import RoutedNorm

__all__ = ["check_counts", "check_dtype", "check_values"]


def check_dtype(layer: RoutedNorm, x: Tensor, own: torch.dtype) -> None:
    """Raise RouteError unless `own`, the layer's dtype, is that of x, or float32 for a half-precision x."""
    if own not in (x.dtype, wide(x.dtype)):
        raise RouteError(
            f"{type(layer).__name__} of {own} got an input of {x.dtype}; "
            f"convert the model to {x.dtype} or the input to {own}"
        )


def check_values(layer: RoutedNorm, x: Tensor, selection: Resolved, per_route: bool) -> None:
    """Raise RouteError if batch statistics of x (N, C, *) have one value per channel: the output would be
    constant.

    The statistics are those of the batch, or with `per_route` those of each part or route.
    """
    if x.shape[2:].numel() > 1:
        return
    if not per_route or is_whole_batch(selection):
        if len(x) * x.shape[2:].numel() == 1:
            raise RouteError(_refusal(layer, f"an input of shape {tuple(x.shape)}"))
    elif isinstance(selection, Tensor):
        ones = torch.ones_like(selection)
        check_counts(layer, ones.new_zeros(len(layer.router)).index_add(0, selection, ones))
    elif isinstance(selection, tuple):
        for route, size in selection:
            if size == 1:
                raise RouteError(_refusal(layer, f"one sample for route {quote(layer.router.names[route])}"))


def check_counts(layer: RoutedNorm, counts: Tensor) -> None:
    """Raise RouteError if a number of values per channel is 1 (on CUDA and compiled, the device raises)."""
    message = _refusal(layer, "one sample for one of the routes")
    if not holds((counts != 1).all(), message):
        raise RouteError(message)


def _refusal(layer: RoutedNorm, given: str) -> str:
    return (
        f"{type(layer).__name__} got {given}, and batch statistics need more than one value per channel; "
        "give at least two samples for each route that is used, or call eval()"
    )
