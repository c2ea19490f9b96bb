"""Which part of a route matters: images of one route with the statistics and the affine of others."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from robustsabn.analysis.batches import RouteBatch, Routes, batches_of, outputs_of, undisturbed
from robustsabn.analysis.results import Result, number
from robustsabn.errors import InputError
from robustsabn.layers import RoutedBatchNorm
from robustsabn.report.console import result_table
from robustsabn.report.numbers import percent
from robustsabn.routing import route, routers_of
from robustsabn.text import quote

__all__ = ["Swap", "Swaps", "route_swap"]


@dataclass(frozen=True)
class Swap:
    """Mean loss and accuracy in [0, 1] of the batch of route `data`, with running statistics of the route
    `statistics`, or "shared", and the affine of the route `affine`. The accuracy is NaN without labels."""

    data: str
    statistics: str
    affine: str
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Swaps(Result):
    """Every combination of data, statistics and affine; see `route_swap`."""

    rows: tuple[Swap, ...]

    def of(self, data: str, statistics: str, affine: str) -> Swap:
        """One combination."""
        wanted = (data, statistics, affine)
        found = [one for one in self.rows if (one.data, one.statistics, one.affine) == wanted]
        if not found:
            raise InputError(f"no combination {quote(wanted)}; see .rows")
        return found[0]

    def table(self) -> Table:
        rows = []
        for one in self.rows:
            accuracy = "" if math.isnan(one.accuracy) else percent(one.accuracy, 1)
            rows.append([one.data, one.statistics, one.affine, number(one.loss), accuracy])
        head = ["data of", "statistics of", "affine of", "loss", "accuracy"]
        return result_table("routes with their statistics and affines swapped", head, rows)

    def to_dict(self) -> dict[str, Any]:
        return {"rows": [asdict(one) for one in self.rows]}


@torch.no_grad()
def route_swap(
    model: nn.Module, x: Tensor | None = None, y: Tensor | None = None, *, routes: Routes | None = None
) -> Swaps:
    """Loss and accuracy of every route's batch with the running statistics and the affine of every route.

    For the batches (selection, x, y) of `routes`, as in `route_gradients`: the images of route i go through
    the network in eval mode with the running statistics of route j and the effective affine of route k, for
    all i, j, k. If accuracy follows k rather than j, the affine makes the difference and not the statistics.
    Without statistics per route there is one set, "shared". This is our definition. Works on a copy of the
    model; costs as many forwards as combinations.

    Raises InputError unless the model has one router, and the selections are names or numbers of its routes.

    Example:

        >>> import torch
        >>> from robustsabn import convert
        >>> from robustsabn.analysis import route_swap
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
        >>> x, y = torch.rand(16, 4), torch.arange(16) % 3
        >>> swaps = route_swap(convert(net), routes=[("clean", x, y), ("adv", x + 0.1, y)])
        >>> len(swaps.rows), swaps.of("adv", "clean", "adv").data
        (8, 'adv')
    """
    batches = batches_of(model, x, y, routes)
    routers = [router for router in routers_of(model) if router.condition is None]
    if len(routers) != 1:
        raise InputError(f"{type(model).__name__} has {len(routers)} routers; routes are swapped behind one")
    indices = []
    for batch in batches:
        if not isinstance(batch.selection, (str, int)):
            raise InputError(
                f"the selection {quote(batch.selection)} is of type {type(batch.selection).__name__}; give "
                "the name or number of a route, whose statistics and affine are swapped"
            )
        indices.append(routers[0].index(batch.selection))
    twin = copy.deepcopy(model)
    norms = [
        (own, new)
        for own, new in zip(model.modules(), twin.modules(), strict=True)
        if isinstance(own, RoutedBatchNorm) and own.statistics == "per_route" and own.running_mean is not None
    ]
    chosen = [(batch.name, index) for batch, index in zip(batches, indices, strict=True)]
    rows = []
    with undisturbed(twin, "eval"):
        for data, (statistics, j) in product(batches, chosen if norms else [("shared", 0)]):
            for own, new in norms:
                for entry in ("running_mean", "running_var"):
                    getattr(new, entry).copy_(getattr(own, entry)[j])  # in the row of every route
            for affine, k in chosen:
                with route(twin, k):
                    rows.append(Swap(data.name, statistics, affine, *_scores(twin, data)))
    return Swaps(tuple(rows))


def _scores(model: nn.Module, batch: RouteBatch) -> Sequence[float]:
    output, y = outputs_of(model, batch), batch.y
    loss = batch.loss(output, y).mean().reshape(())
    labelled = isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point()
    if not (labelled and isinstance(output, Tensor) and output.ndim == 2):
        return loss.item(), math.nan
    right = (output.argmax(1) == y).to(loss.dtype).mean()
    return tuple(torch.stack([loss, right]).tolist())
