"""A table with one row for each class, read by the route in force."""

import torch
from torch import Tensor, nn

from robustsabn.layers.affine.compose import mixed
from robustsabn.routing import Router, current_selection

__all__ = ["ClassEmbedding"]


class ClassEmbedding(nn.Module):
    """Rows of `weight` (R, D) drawn from N(0, 1): (N, D) where routes differ by sample, (1, D) for a whole batch."""

    def __init__(self, dim: int, router: Router) -> None:
        super().__init__()
        self.router = router
        self.weight = nn.Parameter(torch.randn(len(router), dim))

    def forward(self) -> Tensor:
        """The rows of the classes in force; zeros for route None."""
        selection, _ = current_selection(self.router)
        table = self.weight
        if selection is None:
            return table.new_zeros(1, table.shape[1])
        if isinstance(selection, int):
            return table[selection : selection + 1]
        if isinstance(selection, tuple):
            return torch.cat([table[r].expand(size, -1) for r, size in selection])
        return mixed(selection, table)[None] if selection.is_floating_point() else table[selection]
