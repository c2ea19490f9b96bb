"""The routes of a supernet's norms: the operations into the node that an edge leaves.

The norms on the edges that leave node j have route sum_k 5^k o_k, with o_k the operation on the edge from
node k to node j. Source: the code of Gong et al., arXiv 2102.11382; `docs/nas.md` says where it differs.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from robustsabn.models.nas.supernet import INTO, Supernet
from robustsabn.nas import NODES, OPERATIONS
from robustsabn.routing import Blend, Router, Selection

__all__ = ["Routes", "blended", "of_operations", "route_numbers", "sampled"]

Routes = dict[Router, Selection]
"""A selection for `route(supernet, routes)`; empty for a supernet without routes."""

SOURCES = range(NODES - 1)
"""The nodes that edges leave."""


def route_numbers(operations: Sequence[int]) -> tuple[int, ...]:
    """The route of each of the nodes 0, 1 and 2 for the six operations of a cell.

    Example:

        >>> from robustsabn.trainers.nas.search.routes import route_numbers
        >>> route_numbers((3, 4, 1, 0, 0, 0))
        (0, 3, 9)
    """
    base = len(OPERATIONS)
    return tuple(sum(base**k * o for k, o in enumerate(operations[INTO[node]])) for node in SOURCES)


def of_operations(supernet: Supernet, operations: Sequence[int], *, faithful: bool = False) -> Routes:
    """The routes of six operations, the same in all cells."""
    return _routes(supernet, (route_numbers(operations) for _ in supernet.cells), faithful)


def sampled(
    supernet: Supernet,
    weights: Tensor,
    source: torch.Generator,
    *,
    numbers: bool = True,
    faithful: bool = False,
) -> Routes:
    """The routes of operations that are drawn for each edge of each cell with probabilities `weights` (6, 5).

    With `numbers`, the host waits once for a device that draws; without, the routes are blends of which one
    weight is 1 and the others are 0, which wait for nothing, and which compiled code takes as one graph.
    """
    if not supernet.cells[0].routers:
        return {}
    # o maximises weights[o] / Exp(1) with probability weights[o]; unlike torch.multinomial it never waits
    noise = torch.empty((len(supernet.cells), *weights.shape), dtype=torch.float32, device=weights.device)
    drawn = (weights.detach() / noise.exponential_(generator=source)).argmax(-1)
    if numbers:
        return _routes(supernet, (route_numbers(operations) for operations in drawn.tolist()), faithful)
    hot = one_hot(drawn, len(OPERATIONS)).to(weights.dtype)
    return _routes(supernet, (_blends(each) for each in hot), faithful)


def blended(supernet: Supernet, weights: Tensor) -> Routes:
    """All routes, each with the product of the weights (6, 5) of its operations; differentiable."""
    blends = _blends(weights)
    return _routes(supernet, (blends for _ in supernet.cells), False)


def _blends(weights: Tensor) -> list[Selection]:
    """The selections of the nodes: 0, and blends of 5 and 25 routes."""
    selections: list[Selection] = [0]
    for node in SOURCES[1:]:
        mixture, *others = weights[INTO[node]]
        for other in others:  # later edges are the higher digits of the route
            mixture = torch.outer(other, mixture).flatten()
        selections.append(Blend(mixture))
    return selections


def _routes(supernet: Supernet, cells: Iterable[Sequence[Selection]], faithful: bool) -> Routes:
    """One selection for each router of each cell.

    No operation leads to the input of the first cell: its edges take the shared affine only, where there is
    one. The published code has this rule, but never applies it.
    """
    routes: Routes = {}
    for cell, selections in zip(supernet.cells, cells, strict=True):
        routes |= dict(zip(cell.routers, selections, strict=False))
    if supernet.has_shared_affine and not faithful:
        routes[supernet.cells[0].routers[0]] = None
    return routes
