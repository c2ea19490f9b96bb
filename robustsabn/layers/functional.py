"""The arithmetic of routed normalisation, with one pass over the activation for each selection.

Shapes: x (N, C, *); scale and shift per sample (N, C) or per channel (C,); groups (N,) assigns samples to
sets of statistics; parts are consecutive along N. Gradients of the fused functions are analytic and of first
order. All is computed in float32 or wider and rounded once, to the dtype of x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustsabn.layers.moments import (
    Moments,
    batch_moments,
    over,
    positions,
    scale_shift,
    sum_positions,
    wide,
)

__all__ = ["normalise_parts", "normalise_samples"]


class _Samples(torch.autograd.Function):
    """y = scale * xhat + shift, which keeps only xhat for the backward; in half precision x, to compute xhat
    again.

    With k1 and k2 the means of scale * gy and scale * gy * xhat over the group,
    gx = (scale * gy - k1 - k2 * xhat) / sigma: everything except gy and xhat has the size of parameters.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, groups: Tensor | None, n_groups: int, eps: float
    ) -> Any:
        exact = x.to(wide(x.dtype))
        if groups is None:
            mean, var = exact.new_zeros(x.shape[1]), exact.new_zeros(x.shape[1])
            xhat, _, invstd = torch.native_batch_norm(exact, None, None, mean, var, True, 1.0, eps)
            count = exact.new_full((1,), x.shape[0] * positions(x))
            moments = count, mean.unsqueeze(0), var.unsqueeze(0) * ((count - 1) / count)
        else:
            moments = batch_moments(exact, groups, n_groups)
            invstd = torch.rsqrt(moments[2] + eps)
            xhat = scale_shift(exact, invstd[groups], (-moments[1] * invstd)[groups])
        ctx.save_for_backward(xhat if exact is x else x, moments[1], invstd, scale, moments[0], groups)
        ctx.mark_non_differentiable(*moments)
        return scale_shift(xhat, scale, shift).to(x.dtype), *moments

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides the name ctx
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        kept, mean, invstd, scale, count, groups = ctx.saved_tensors
        gy, xhat, scale = (t.to(wide(kept.dtype)) for t in (grad_outputs[0], kept, scale))
        if xhat is not kept:
            offset = -mean * invstd
            xhat = scale_shift(
                xhat, *((invstd, offset) if groups is None else (invstd[groups], offset[groups]))
            )
        g_shift = sum_positions(gy, scale.dtype)
        g_scale = sum_positions(gy * xhat, scale.dtype)
        gx = None
        if ctx.needs_input_grad[0]:
            if groups is None:
                k1, k2 = (scale * g_shift).sum(0) / count, (scale * g_scale).sum(0) / count
            else:
                per = count.clamp(min=1).unsqueeze(1)
                k1 = (torch.zeros_like(invstd).index_add(0, groups, scale * g_shift) / per)[groups]
                k2 = (torch.zeros_like(invstd).index_add(0, groups, scale * g_scale) / per)[groups]
                invstd = invstd[groups]
            gx = scale_shift(xhat, -k2 * invstd, -k1 * invstd).addcmul_(gy, over(scale * invstd, gy))
        return gx, g_scale, g_shift, None, None, None  # autograd rounds them to the dtypes of the inputs


_samples: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = _Samples.apply


def normalise_samples(
    x: Tensor, scale: Tensor, shift: Tensor, groups: Tensor | None, n_groups: int, eps: float
) -> tuple[Tensor, Moments]:
    """Normalise x by statistics of the batch or of groups, then scale and shift by sample (N, C)."""
    if groups is None and not len(x):  # torch's kernel divides by the number of samples
        groups = torch.zeros(0, dtype=torch.long, device=x.device)
    y, count, mean, var = _samples(x, scale, shift, groups, n_groups, eps)
    return y, (count, mean, var)


Running = Sequence[tuple["Tensor | None", "Tensor | None", float]]
"""For each part: running mean (C,) and variance (C,), which are updated in place, and the momentum."""


def _is_dense(x: Tensor) -> bool:
    """Whether x is contiguous in one of the memory formats of torch's kernels."""
    formats = [torch.contiguous_format]
    if x.ndim in (4, 5):
        formats.append(torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    return any(x.is_contiguous(memory_format=form) for form in formats)


class _Parts(torch.autograd.Function):
    """Batch normalisation of consecutive parts, each written to its place in the output without a
    concatenation.

    x must be dense: on a CPU the kernel does not write all of `out` if that is a view.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        sizes: list[int],
        running: Running,
        training: bool,
        eps: float,
    ) -> Tensor:
        y = torch.empty_like(x)
        # saved for the backward, in eval mode too, where CUDA kernels read it, in float32 or wider
        kept = wide(x.dtype) if x.is_cuda else scale.dtype
        mean, invstd = (torch.zeros_like(scale, dtype=kept) for _ in range(2))
        for i, (part, out) in enumerate(
            zip(x.split_with_sizes(sizes), y.split_with_sizes(sizes), strict=True)
        ):
            if len(part):
                args = (scale[i], shift[i], running[i][0], running[i][1], training, running[i][2], eps)
                torch.native_batch_norm(part, *args, out=(out, mean[i], invstd[i]))
        known = [] if training else [t for part in running for t in part[:2] if t is not None]
        ctx.save_for_backward(x, scale, mean, invstd, *known)
        ctx.sizes, ctx.training, ctx.eps = sizes, training, eps
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides the name ctx
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        gy = grad_outputs[0]
        x, scale, mean, invstd, *known = ctx.saved_tensors
        gx, g_scale, g_shift = torch.empty_like(x), torch.zeros_like(scale), torch.zeros_like(scale)
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
        for i, (part, g, out) in enumerate(
            zip(
                x.split_with_sizes(ctx.sizes),
                gy.split_with_sizes(ctx.sizes),
                gx.split_with_sizes(ctx.sizes),
                strict=True,
            )
        ):
            if len(part):
                grads = torch.ops.aten.native_batch_norm_backward(
                    g,
                    part,
                    scale[i],
                    known[2 * i] if known else None,
                    known[2 * i + 1] if known else None,
                    mean[i],
                    invstd[i],
                    ctx.training,
                    ctx.eps,
                    wanted,
                )
                for target, grad in zip((out, g_scale[i], g_shift[i]), grads, strict=True):
                    if grad is not None:
                        target.copy_(grad)
        return gx if wanted[0] else None, g_scale, g_shift, None, None, None, None


_parts: Callable[..., Tensor] = _Parts.apply


def normalise_parts(
    x: Tensor, scale: Tensor, shift: Tensor, sizes: list[int], running: Running, training: bool, eps: float
) -> Tensor:
    """Batch normalisation of consecutive parts of x, each with its own scale, shift (P, C) and statistics."""
    if not torch.compiler.is_compiling() and _is_dense(x):
        return _parts(x, scale, shift, sizes, running, training, eps)
    outs = [
        F.batch_norm(part, mean, var, scale[i], shift[i], training, momentum, eps)
        for i, (part, (mean, var, momentum)) in enumerate(
            zip(x.split_with_sizes(sizes), running, strict=True)
        )
        if len(part)
    ]
    return torch.cat(outs) if outs else x.clone()
