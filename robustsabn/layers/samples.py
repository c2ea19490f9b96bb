"""Normalisation with an affine for each sample. Autograd keeps x alone, and backward takes two passes.

Shapes: x (N, C, *); scale and shift (N, C); mean and var (G, C); groups (N,) assigns each sample to a row of
mean and var. All is computed in float32 or wider and rounded once, to the dtype of x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustsabn.layers.moments import (
    Moments,
    apply_moments,
    batch_moments,
    over,
    positions,
    sum_positions,
    wide,
)

__all__ = ["normalise_samples"]

SLICE = 2**19
"""Bytes of an activation that are worked on at a time on a CPU, so that they stay in its cache."""


def normalise_samples(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    groups: Tensor | None,
    *,
    sets: int = 1,
    known: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Moments | None]:
    """`scale * (x - mean) / sqrt(var + eps) + shift` and the moments of the batch, by group of samples.

    `known` mean and variance (G, C) stand in place of those of the batch.
    """
    if _is_transformed():
        moments = None if known else batch_moments(x, groups, sets)
        mean, var = known or moments[1:]  # type: ignore[index]
        return _through_autograd(x, scale, shift, mean, var, groups, eps), moments
    if known:
        return _samples(x, scale, shift, *known, None, groups, eps), None
    with torch.no_grad():
        moments = _moments(x.detach(), groups, sets)
    count, mean, var = moments
    return _samples(x, scale, shift, mean, var, count, groups, eps), moments


def _is_transformed() -> bool:
    """Whether something else than plain autograd asks for derivatives, or the program is recorded."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def _through_autograd(
    x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, groups: Tensor | None, eps: float
) -> Tensor:
    mean, var = (m if groups is None else m[groups] for m in (mean, var))
    exact = x.to(wide(x.dtype))  # both uses of x are added up in the backward
    return apply_moments(exact, mean, var, eps, scale, shift).to(x.dtype)


def _moments(x: Tensor, groups: Tensor | None, sets: int) -> Moments:
    if groups is not None or not x.numel() or x.device.type not in ("cpu", "cuda"):
        return batch_moments(x, groups, sets)
    exact = x.to(wide(x.dtype))  # the kernels of torch's batch norm, with its rounding
    mean, var = torch.batch_norm_update_stats(exact, None, None, 0.0)
    return x.new_full((1,), len(x) * positions(x), dtype=mean.dtype), mean.unsqueeze(0), var.unsqueeze(0)


class _Samples(torch.autograd.Function):
    """y = scale * xhat + shift with xhat = (x - mean) / sigma.

    With `count` (G,), the values per channel in each group, mean and var are those of x itself.
    With k1 and k2 the means of scale * gy and scale * gy * xhat over the group,
    gx = (scale * gy - k1 - k2 * xhat) / sigma: everything except gy and x has the size of parameters.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        mean: Tensor,
        var: Tensor,
        count: Tensor | None,
        groups: Tensor | None,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, scale, shift, mean, var, count, groups)
        ctx.eps = eps
        mean, invstd = _rows(x, mean, var, groups, eps)
        total = scale.to(mean.dtype) * invstd
        return _affine(x, total, torch.addcmul(shift.to(mean.dtype), mean, total, value=-1))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gy,) = grad_outputs
        x, scale, _, mean, var, count, groups = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient to be differentiated
            return *_differentiable(ctx, gy), None, None, None, None, None
        centre, invstd = _rows(x, mean, var, groups, ctx.eps)
        scale = scale.to(centre.dtype)
        gx = g_scale = g_shift = None
        if count is not None or ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            g_shift, g_scale = _sums(gy, x, centre)
            g_scale = g_scale * invstd
        if ctx.needs_input_grad[0]:
            total = scale * invstd
            if count is None:
                gx = _affine(gy, total, None, x)
            else:
                assert g_scale is not None
                k1, k2 = (_means(scale * g, count, groups, len(x)) for g in (g_shift, g_scale))
                slope = -k2 * invstd * invstd
                gx = _affine(gy, total, -k1 * invstd - slope * centre, x, slope)
        return (
            gx,
            g_scale,
            g_shift,
            None,
            None,
            None,
            None,
            None,
        )  # autograd rounds them to the dtypes of the inputs


_samples: Callable[..., Tensor] = _Samples.apply


def _differentiable(ctx: Any, gy: Tensor) -> list[Tensor | None]:
    """Differentiable gradients of x, scale and shift, from the same computation with autograd."""
    x, scale, shift, mean, var, count, groups = ctx.saved_tensors
    wanted = [t for t, needed in zip((x, scale, shift), ctx.needs_input_grad, strict=False) if needed]
    if count is not None:
        _, mean, var = batch_moments(x, groups, len(mean))
    y = _through_autograd(x, scale, shift, mean, var, groups, ctx.eps)
    found = iter(torch.autograd.grad(y, wanted, gy, create_graph=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[:3]]


def _rows(x: Tensor, mean: Tensor, var: Tensor, groups: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sigma of each sample, (N, C), or (1, C) where they are one for all."""
    dtype = wide(x.dtype)
    mean, invstd = mean.to(dtype), torch.rsqrt(var.to(dtype) + eps)
    return (mean, invstd) if groups is None else (mean[groups], invstd[groups])


def _means(values: Tensor, count: Tensor, groups: Tensor | None, n: int) -> Tensor:
    """Sums of values (N, C) in each group divided by its count, as rows (N or 1, C)."""
    if groups is None:
        return values.sum(0, keepdim=True) / count.clamp(min=1)
    sums = values.new_zeros(len(count), values.shape[1]).index_add(0, groups, values)
    return (sums / count.clamp(min=1).unsqueeze(1))[groups]


def _slices(x: Tensor, *rows: Tensor | None) -> list[tuple[Any, ...]]:
    """x and what belongs to its samples, (N, C) or one row for all, in slices that stay in a CPU's cache."""
    size = len(x)
    if x.is_cpu and x.numel() and x.ndim > 2:
        size = max(1, SLICE * len(x) // (x.numel() * 4))
    cut = []
    for t in (x, *rows):
        if t is None or (len(t) == 1 < len(x)):
            cut.append([t] * -(-len(x) // max(size, 1)))
        else:
            cut.append(list(torch.split(t, max(size, 1))))
    return list(zip(*cut, strict=True))


def _affine(
    x: Tensor, scale: Tensor, shift: Tensor | None, other: Tensor | None = None, slope: Tensor | None = None
) -> Tensor:
    """`scale * x + slope * other + shift`, rounded once, in the dtype and layout of `other` or else of x."""
    like = x if other is None else other
    out = torch.empty_like(like)
    rows = [None if t is None else over(t, x) for t in (scale, shift, slope)]
    for part, to, beside, a, b, c in _slices(x, out, None if slope is None else other, *rows):
        exact = part.dtype == out.dtype == a.dtype
        y = torch.mul(part, a, out=to) if exact else part * a
        if beside is not None:
            y.addcmul_(beside if exact else beside.to(y.dtype), c)
        if b is not None:
            y.add_(b)
        if y is not to:
            to.copy_(y)
    return out


def _sums(gy: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of gy and of gy * (x - mean) over the positions, each (N, C)."""
    shape, dtype = x.shape[:2], mean.dtype
    plain = x.is_cpu and x.dtype == gy.dtype == dtype and x.numel()
    if plain and x.ndim > 2 and x.is_contiguous() and gy.is_contiguous():
        # both in one pass: the gradients of the affine of a batch norm over one sample with N C channels
        flat, centre = (1, -1, *x.shape[2:]), mean.expand(shape).reshape(-1)
        args = (gy.view(flat), x.view(flat), None, None, None, centre, torch.ones_like(centre))
        _, product, total = torch.ops.aten.native_batch_norm_backward(*args, True, 0.0, [False, True, True])
        return total.view(shape), product.view(shape)
    total, product = (torch.empty(shape, dtype=dtype, device=x.device) for _ in range(2))
    for part, g, centre, to, to_product in _slices(x, gy, over(mean, x), total, product):
        to.copy_(sum_positions(g, dtype))
        to_product.copy_(sum_positions((part - centre).mul_(g), dtype))
    return total, product
