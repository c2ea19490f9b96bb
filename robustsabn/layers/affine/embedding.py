"""One vector for each sample, chosen by its route."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_device, a_dtype, a_whole_number
from robustsabn.errors import RouteError
from robustsabn.layers.affine.compose import repeat_parts, rows_of
from robustsabn.routing import Router, current_selection, is_whole_batch, record_selection
from robustsabn.text import quote

__all__ = ["RoutedEmbedding"]


class RoutedEmbedding(nn.Module):
    """The current selection as vectors: rows of a table `weight` (R, D), initialised from N(0, 1).

    `embedding(n)` gives (n, D): the row of each sample's route with routes by sample, one row for all with a
    single route, the weighted mean with a `Blend`, zeros with None. `embedding()` gives (1, D) if it is one
    for all. It is for generators that need the class as a vector (BigGAN) and for projection discriminators;
    both forms of torch's `spectral_norm` work on it. Raises RouteError for a selection of another number of
    samples than n. Source: BigGAN, arXiv 1809.11096; projection discriminator, arXiv 1802.05637.

    Example:

        >>> import torch
        >>> from robustsabn import RoutedEmbedding, route
        >>> embedding = RoutedEmbedding(10, embedding_dim=4)
        >>> with route(embedding, torch.tensor([3, 1])):
        ...     y = embedding(2)
        >>> torch.equal(y, embedding.weight[[3, 1]])
        True
    """

    def __init__(
        self,
        routes: int | Sequence[str],
        embedding_dim: int,
        *,
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if router is not None and (not isinstance(router, Router) or router.condition is not None):
            raise RouteError(
                f"router is {quote(router)}; give a robustsabn.Router of routes, or leave it out"
            )
        a_whole_number("embedding_dim", embedding_dim, RouteError)
        self.router = Router(routes) if router is None else router
        self.weight = nn.Parameter(
            torch.empty(
                len(self.router),
                embedding_dim,
                device=None if device is None else a_device(device, RouteError),
                dtype=None if dtype is None else a_dtype(dtype, RouteError),
            )
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Rows from N(0, 1)."""
        nn.init.normal_(self.weight)

    def forward(self, samples: int | None = None) -> Tensor:
        """Vectors (samples, D) of the current selection."""
        selection, _ = current_selection(self.router)
        table = self.weight
        rows = table.new_zeros(table.shape[1]) if selection is None else rows_of(table, selection)
        if is_whole_batch(selection):
            out = rows.expand(1 if samples is None else samples, -1)
        else:
            out = repeat_parts(rows, selection) if isinstance(selection, tuple) else rows
            if samples not in (None, len(out)):
                raise RouteError(
                    f"a selection of {len(out)} samples for a batch of {samples}; give one route per sample"
                )
        record_selection(self.router, selection, out)
        return out

    def extra_repr(self) -> str:
        """Routes and dimension, for print(model)."""
        return f"{len(self.router)}, {self.weight.shape[1]}"
