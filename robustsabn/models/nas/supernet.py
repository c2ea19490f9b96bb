"""The supernet of NAS-Bench-201: each edge of a cell has all operations, with the weights of each."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from robustsabn.errors import ModelError
from robustsabn.layers import RoutedBatchNorm2d
from robustsabn.layers.affine import Affine, Statistics
from robustsabn.models.nas.blocks import MakeNorm, average_pool, normed_conv
from robustsabn.models.nas.cell_network import CellNetwork
from robustsabn.models.nas.mixing import weighted_sum
from robustsabn.nas.cell import EDGES, NODES, OPERATIONS, Cell
from robustsabn.nas.costs import Reduction
from robustsabn.routing import Router
from robustsabn.text import nearest, quote

__all__ = ["AFFINES", "INTO", "SearchCell", "Supernet", "supernet"]

AFFINES: dict[str, Affine] = {
    "bn": "none",
    "bn-affine": "shared",
    "ccbn": "independent",
    "sabn": "sandwich",
}
"""The affines of the norms in the cells, by the name of the norm."""

INTO = tuple(slice(node * (node - 1) // 2, node * (node + 1) // 2) for node in range(NODES))
"""The edges into each node, in the order of their sources: a slice of `EDGES`."""

NONE, SKIP, POOL = (OPERATIONS.index(name) for name in ("none", "skip_connect", "avg_pool_3x3"))
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
MIXED = tuple(operation for operation in range(len(OPERATIONS)) if operation != NONE)


class _Node:
    """The value of a node, and what several edges compute of it."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._activated: Tensor | None = None
        self._pooled: Tensor | None = None

    def activated(self) -> Tensor:
        if self._activated is None:
            self._activated = relu(self.x)
        return self._activated

    def pooled(self, pool: nn.Module) -> Tensor:
        if self._pooled is None:
            pooled: Tensor = pool(self.x)
            self._pooled = pooled
        return self._pooled


class SearchCell(nn.Module):
    """node_i = sum over edges (i, j) and operations o of weights[edge, o] o(node_j), node_0 = x.

    x (N, C, H, W) to node 3 of the same shape. The norms on the edges that leave node j take their route from
    `routers[j]`, which has one for each combination of operations on the edges into node j: 1, 5 and 25.
    There are no routers where norms do not depend on routes.
    """

    def __init__(self, channels: int, norm: str, statistics: Statistics, track_running_stats: bool) -> None:
        super().__init__()
        self.routers: tuple[Router, ...] = ()
        if AFFINES[norm] in ("independent", "sandwich") or statistics == "per_route":
            self.routers = tuple(Router(len(OPERATIONS) ** node) for node in range(NODES - 1))
        options = {"statistics": statistics, "track_running_stats": track_running_stats}
        self.edges = nn.ModuleList()
        for _, source in EDGES:
            make = self._norms(norm, source, options)
            layers = {name: normed_conv(channels, channels, k, norm=make) for name, k in KERNELS.items()}
            self.edges.append(nn.ModuleDict(layers))
        self.pool = average_pool()

    def _norms(self, norm: str, source: int, options: dict[str, Any]) -> MakeNorm:
        if not self.routers:
            tracks = options["track_running_stats"]
            return partial(nn.BatchNorm2d, affine=norm == "bn-affine", track_running_stats=tracks)
        router = self.routers[source]
        if not source:  # one route: None, the shared affine alone, has the same statistics
            options = {**options, "statistics": "shared"}
        return partial(RoutedBatchNorm2d, affine=AFFINES[norm], router=router, init="paper", **options)

    def forward(self, x: Tensor, weights: Tensor | None, path: Sequence[int] | None) -> Tensor:
        """`weights` (6, 5), None for ones; with `path` only its operation of each edge is computed."""
        nodes = [_Node(x)]
        for node in range(1, NODES):
            terms, picked = [], []
            for edge in range(len(EDGES))[INTO[node]]:
                for operation in MIXED if path is None else (path[edge],):
                    if operation != NONE:
                        terms.append(self._output(edge, operation, nodes[EDGES[edge][1]]))
                        picked.append((edge, operation))
            if not terms:
                nodes.append(_Node(torch.zeros_like(x)))
            elif weights is None:
                nodes.append(_Node(sum(terms[1:], terms[0])))
            else:
                mixed = weights[INTO[node], 1:].flatten() if path is None else _picked(weights, picked)
                nodes.append(_Node(weighted_sum(mixed, terms)))
        return nodes[-1].x

    def _output(self, edge: int, operation: int, source: _Node) -> Tensor:
        if operation == SKIP:
            return source.x
        if operation == POOL:
            return source.pooled(self.pool)
        _, conv, norm = self.edges[edge][OPERATIONS[operation]]  # type: ignore[index]
        y: Tensor = norm(conv(source.activated()))
        return y


def _picked(weights: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    return torch.stack([weights[edge, operation] for edge, operation in places])


class Supernet(CellNetwork):
    """The network of NAS-Bench-201 with a `SearchCell` in the place of each cell.

    `architecture` (6, 5) are the parameters of the search, one row for each edge, initialised from
    N(0, 0.001) and shared by all cells. `has_shared_affine` tells whether the norms with routes have a shared
    affine, too, which None selects. Source: the search space of Dong & Yang, ICLR 2020, "NAS-Bench-201"; the
    mixture of Liu et al., ICLR 2019, "DARTS"; the routes of Gong et al., arXiv 2102.11382, section 4.2.

    Example:

        >>> import torch
        >>> from robustsabn import route
        >>> from robustsabn.models.nas import supernet
        >>> model, x = supernet(10, norm="sabn", channels=4, cells=1), torch.rand(2, 3, 8, 8)
        >>> model(x, model.architecture.softmax(1)).shape
        torch.Size([2, 10])
        >>> first, *_ = model.cells
        >>> with route(model, {first.routers[1]: 3, first.routers[2]: 3 + 5 * 1}):  # of these operations
        ...     z = model(x, (3, 3, 1, 1, 0, 0))
    """

    def __init__(self, *sizes: int, norm: str, statistics: Statistics, tracks: bool, **options: Any) -> None:
        super().__init__(lambda channels: SearchCell(channels, norm, statistics, tracks), *sizes, **options)
        self.has_shared_affine = AFFINES[norm] == "sandwich"
        self.architecture = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(OPERATIONS)))

    @property
    def cells(self) -> tuple[SearchCell, ...]:
        """The cells in the order of the network."""
        return tuple(layer for layer in self.layers if isinstance(layer, SearchCell))

    def forward(  # type: ignore[override]
        self, x: Tensor, weights: Tensor | Cell | Sequence[int], path: Sequence[int] | None = None
    ) -> Tensor:
        """Logits (N, num_classes) of images x (N, in_channels, H, W) in [0, 1].

        - weights: (6, 5), those of the operations on each edge, the same in all cells; or a `Cell`, or its
          six operations, of which only these are computed, with weight 1.
        - path: with weights (6, 5), six operations of which only these are computed, each times its weight.

        The routes are those of `route`, and do not follow from the weights.
        """
        mixture = weights if isinstance(weights, Tensor) else None
        if mixture is None:
            path = (weights if isinstance(weights, Cell) else Cell(weights)).operations  # type: ignore[arg-type]
        elif mixture.shape != (len(EDGES), len(OPERATIONS)):
            raise ModelError(
                f"weights of shape {tuple(mixture.shape)}; give one for each of the {len(OPERATIONS)} "
                f"operations on each of the {len(EDGES)} edges, a tensor ({len(EDGES)}, {len(OPERATIONS)})"
            )
        h = self.before(x)
        for layer in self.layers:
            h = layer(h, mixture, path) if isinstance(layer, SearchCell) else layer(h)
        return self.after(h)


def supernet(
    num_classes: int,
    in_channels: int = 3,
    *,
    norm: str = "sabn",
    channels: int = 16,
    cells: int = 5,
    reduction: Reduction = "resnet",
    statistics: Statistics = "shared",
    track_running_stats: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Supernet:
    """A `Supernet` with random weights.

    - norm: of the convolutions in the cells. "bn" has no affine, "bn-affine" one, "ccbn" one per route,
      "sabn" a shared one and one per route. Stem, reductions and the last norm have torch's batch norm.
    - channels, cells: channels of the first stage, and cells in each of the three stages.
    - reduction: "resnet" as in the benchmark, or "pool" without its 3x3 convolutions.
    - statistics: "shared", or "per_route": running statistics for each route, which needs
      `track_running_stats`.
    - track_running_stats: of the norms in the cells. Without, as published, they use the statistics of the
      batch in evaluation too.

    Raises ModelError for another norm, statistics or reduction, and for sizes out of range.
    """
    if not isinstance(norm, str) or norm not in AFFINES:
        raise ModelError(f"norm={quote(norm)}{nearest(norm, AFFINES)}; allowed: {', '.join(AFFINES)}")
    if statistics not in ("shared", "per_route"):
        raise ModelError(f"statistics={quote(statistics)}; allowed: shared, per_route")
    if statistics == "per_route" and not track_running_stats:
        raise ModelError(
            "statistics='per_route' are running statistics, and track_running_stats is False, so they would "
            "be those of the batch on every route; set track_running_stats=True, or statistics='shared'"
        )
    return Supernet(
        num_classes,
        in_channels,
        norm=norm,
        statistics=statistics,
        tracks=track_running_stats,
        channels=channels,
        cells=cells,
        reduction=reduction,
        mean=mean,
        std=std,
    )
