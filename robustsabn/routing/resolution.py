"""Selections that hold numbers: checked against the routes of a model, and moved to its device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustsabn.devices import holds, vector
from robustsabn.errors import RouteError
from robustsabn.routing.selections import Blend

__all__ = ["mixture", "routes_by_sample", "vectors_by_sample"]


def mixture(blend: Blend, count: int, index: Callable[[str], int], like: Tensor | None) -> Tensor:
    """Weights (R,) of a `Blend` of R = `count` routes, whose names `index` knows."""
    if blend.weights is None:
        named = {index(name): weight for name, weight in blend.named.items()}
        if like is None:
            return vector(count, 0.0, named)
        return vector(count, 0.0, named, like.device, torch.promote_types(like.dtype, torch.float32))
    if blend.weights.shape != (count,):
        raise RouteError(
            f"Blend: weights of shape {tuple(blend.weights.shape)} for {count} routes; "
            f"give one weight per route, shape ({count},)"
        )
    return blend.weights if like is None else blend.weights.to(like.device)


def routes_by_sample(routes: Tensor, count: int, like: Tensor | None) -> Tensor:
    """One of `count` routes for each sample, (N,)."""
    if routes.dtype != torch.long or routes.ndim != 1:
        raise RouteError(
            f"per-sample routes of dtype {routes.dtype} and shape {tuple(routes.shape)}; give a "
            "LongTensor (N,)"
        )
    inside = ((routes >= 0) & (routes < count)).all()
    if not holds(inside, f"per-sample routes must lie in 0 to {count - 1}"):
        raise RouteError(
            f"per-sample routes from {int(routes.min())} to {int(routes.max())}; "
            f"this model has routes 0 to {count - 1}"
        )
    return routes if like is None else routes.to(like.device)


def vectors_by_sample(vectors: Tensor, length: int | None, like: Tensor | None) -> Tensor:
    """A vector of `length` for each sample, (N, D). Layers of float32 also take half precision (autocast)."""
    if vectors.shape[1] != length:
        raise RouteError(
            f"Condition: vectors of length {vectors.shape[1]} for layers of condition={length}; "
            f"give a tensor (N, {length})"
        )
    half = vectors.dtype in (torch.float16, torch.bfloat16)
    if like is not None and vectors.dtype != like.dtype and not (half and like.dtype == torch.float32):
        raise RouteError(
            f"Condition: vectors of {vectors.dtype} for layers of {like.dtype}; give vectors.to({like.dtype})"
        )
    return vectors if like is None else vectors.to(like.device)
