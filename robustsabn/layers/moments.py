"""Moments of groups of samples, normalisation by them, and updates of running statistics.

Shapes: x (N, C, *); scale and shift per sample (N, C) or per channel (C,); groups (N,) assigns samples to
sets of statistics. All is computed in float32 or wider and rounded once, to the dtype of x."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "Moments",
    "affine_rows",
    "apply_moments",
    "approach",
    "batch_moments",
    "over",
    "positions",
    "route_per_sample",
    "scale_shift",
    "sum_positions",
    "torch_batch_norm",
    "wide",
]

Moments = tuple[Tensor, Tensor, Tensor]
"""Count (G,), mean (G, C) and biased variance (G, C) of groups of samples."""


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in: float32 for half precision, else the same."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def over(v: Tensor, x: Tensor) -> Tensor:
    """v, (C,) or (N, C), shaped to broadcast over x."""
    return v.to(wide(x.dtype)).reshape(-1, v.shape[-1], *(1,) * (x.ndim - 2))


def positions(x: Tensor) -> int:
    """Number of positions of x (N, C, *)."""
    return x.shape[2:].numel()


def sum_positions(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of x (N, C, *) over its positions, (N, C)."""
    return x.sum(tuple(range(2, x.ndim)), dtype=dtype) if x.ndim > 2 else x.to(dtype)


def scale_shift(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """`scale * x + shift`; None stands for 1 and 0."""
    if scale is None:
        return x if shift is None else (x + over(shift, x)).to(x.dtype)
    if shift is None:
        return (x * over(scale, x)).to(x.dtype)
    return torch.addcmul(over(shift, x), x, over(scale, x)).to(x.dtype)


def batch_moments(x: Tensor, groups: Tensor | None = None, n_groups: int = 1) -> Moments:
    """Moments of x for each group of samples, in float32 or wider; all 0 for a group without samples.

    Each sample is reduced first, and samples are merged by the law of total variance.
    """
    x = x.to(wide(x.dtype))
    if x.ndim > 2 and len(x):
        var, mean = torch.var_mean(x, tuple(range(2, x.ndim)), correction=0)
    else:  # one position, or no sample: the sum keeps a graph, which collectives need on every process
        mean = sum_positions(x, x.dtype)
        var = torch.zeros_like(mean)
    n = x.shape[0]
    if groups is None:
        group_mean = mean.sum(0, keepdim=True) / max(n, 1)
        group_var = (var + (mean - group_mean) ** 2).sum(0, keepdim=True) / max(n, 1)
        return x.new_full((1,), n * positions(x)), group_mean, group_var
    samples = x.new_zeros(n_groups).index_add(0, groups, x.new_ones(n))
    share = samples.clamp(min=1).unsqueeze(1)
    zeros = x.new_zeros(n_groups, x.shape[1])
    group_mean = zeros.index_add(0, groups, mean) / share
    group_var = zeros.index_add(0, groups, var + (mean - group_mean[groups]) ** 2) / share
    return samples * positions(x), group_mean, group_var


def approach(running: Tensor, new: Tensor, weight: Tensor) -> None:
    """Update running statistics in place, with one rounding."""
    with torch.no_grad():
        running.copy_(running.to(new.dtype).lerp(new.expand_as(running), weight.to(new)))


def route_per_sample(parts: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """The route of each sample (N,) of a Split."""
    return torch.cat([torch.full((size,), index, device=device) for index, size in parts])


def affine_rows(v: Tensor | None, fill: float, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A scale or shift as one row for each sample of x, (N, C)."""
    if v is None:
        v = x.new_full(x.shape[1:2], fill, dtype=dtype)
    return v.expand(len(x), -1)


def apply_moments(
    x: Tensor, mean: Tensor, var: Tensor, eps: float, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    """`scale * (x - mean) / sqrt(var + eps) + shift`, with one operation on x."""
    invstd = torch.rsqrt(var.to(wide(x.dtype)) + eps)
    total = invstd if scale is None else scale * invstd
    offset = -mean * total
    return scale_shift(x, total, offset if shift is None else offset + shift)


def torch_batch_norm(
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """`F.batch_norm` without its check of the number of values per channel, which layers make."""
    cudnn = torch.backends.cudnn.enabled
    return torch.batch_norm(x, scale, shift, mean, var, training, momentum, eps, cudnn)
