"""Composition of affines, which are as small as parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from robustsabn.layers.moments import wide
from robustsabn.routing import Resolved, is_blend

__all__ = ["compose", "mixed", "repeat_parts", "rows_of"]


def compose(
    g: Tensor, b: Tensor | None, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """`G = g * weight` and `B = g * bias + b`: affine (g, b) after a shared one (weight, bias), if any."""
    if weight is None:
        return g, b
    if b is not None and bias is not None:
        b = torch.addcmul(b, g, bias)  # rounded once
    return g * weight, b


def rows_of(table: Tensor, selection: Resolved) -> Tensor:
    """The rows of a table (R, *) for a selection: (*) for a whole batch, (N, *) by sample, (P, *) by part."""
    if is_blend(selection):
        return mixed(selection, table)
    if isinstance(selection, int):  # select is several times cheaper than indexing
        return table.select(0, selection)
    if isinstance(selection, Tensor):
        return table[selection.to(table.device)]  # a model can be on several devices
    assert selection is not None
    # not table[list], which on CUDA copies the list from the host and waits
    return torch.stack([table.select(0, route) for route, _ in selection])


def mixed(weights: Tensor, rows: Tensor) -> Tensor:
    """Sum over r of weights[r] rows[r]; weights (R,), rows (R, *S). Autocast would round a matrix product."""
    weights = weights.to(rows.device, wide(rows.dtype)).reshape(-1, *(1,) * (rows.ndim - 1))
    return (weights * rows).sum(0).to(rows.dtype)


def repeat_parts(rows: Tensor, parts: tuple[tuple[int, int], ...]) -> Tensor:
    """Rows (P, *S) of consecutive parts, repeated for each sample, (N, *S)."""
    return torch.cat([row.expand(size, *row.shape) for row, (_, size) in zip(rows, parts, strict=True)])
