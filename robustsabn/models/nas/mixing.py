"""Sums of activations with trained weights, as the edges of a supernet need them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["weighted_sum"]


def weighted_sum(weights: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """Sum over t of weights[t] terms[t]; weights (T,), at least one term, all of one shape.

    Terms are kept for backward only if the weights are trained. Differentiable twice.
    """
    if torch.compiler.is_compiling():  # the compiler fuses it
        out = weights[0] * terms[0]
        for i in range(1, len(terms)):
            out = out + weights[i] * terms[i]
        return out
    return _weighted_sum(weights, *terms)


class _WeightedSum(torch.autograd.Function):
    """One pass over each term, forward and backward, without temporary products."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *terms: Tensor) -> Tensor:
        kept = terms if weights.requires_grad else ()
        ctx.save_for_backward(weights, *kept)
        each = weights.to(terms[0].dtype).unbind()
        out = terms[0] * each[0]
        for weight, term in zip(each[1:], terms[1:], strict=True):
            out.addcmul_(term, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grad_outputs
        weights, *terms = ctx.saved_tensors
        each = weights.to(g.dtype).unbind()
        wanted = ctx.needs_input_grad[1:]
        to_terms = [g * weight if needed else None for weight, needed in zip(each, wanted, strict=True)]
        to_weights = torch.stack([_inner(g, term) for term in terms]).to(weights) if terms else None
        return to_weights, *to_terms


_weighted_sum: Callable[..., Tensor] = _WeightedSum.apply


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b, (), without a temporary product where both are laid out in the same way."""
    if a.ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in (a, b)):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    if a.dtype == b.dtype and a.dtype.itemsize >= 4 and a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.view(-1), b.view(-1))
    return (a * b).sum(dtype=torch.promote_types(a.dtype, torch.float32))
