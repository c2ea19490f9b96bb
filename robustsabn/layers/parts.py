"""Batch normalisation of consecutive parts of a batch, each written in its place. First-order gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustsabn.layers.moments import wide

__all__ = ["normalise_parts"]


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
