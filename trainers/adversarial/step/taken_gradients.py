"""Gradients computed earlier in a step, as part of its loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["taken"]


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides the name ctx
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        return None, None, *(grad_outputs[0] * g for g in ctx.gradients)


def taken(value: Tensor, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """The scalar `value`, whose gradients with respect to `weights` are `gradients`."""
    result: Tensor = _Taken.apply(value, gradients, *weights)  # type: ignore[no-untyped-call]
    return result
