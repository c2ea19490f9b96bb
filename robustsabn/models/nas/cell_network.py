"""The network of a cell of NAS-Bench-201, for training on its own."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import relu

from robustsabn.arguments import a_whole_number
from robustsabn.errors import ModelError
from robustsabn.models.nas.blocks import Zero, average_pool, normed_conv, reduction_block
from robustsabn.models.normalize import Normalize
from robustsabn.nas.cell import EDGES, EXAMPLE, NODES, OPERATIONS, Cell
from robustsabn.nas.costs import STAGES, Reduction, check_reduction

__all__ = ["CellNetwork", "nas_bench_201"]

MOST = 10_000
"""Most channels or cells of a stage; a larger number is a typing error."""


def operation(name: str, channels: int) -> nn.Module:
    """The layers of an operation of `OPERATIONS`, from and to (N, channels, H, W)."""
    match name:
        case "none":
            return Zero()
        case "skip_connect":
            return nn.Identity()
        case "avg_pool_3x3":
            return average_pool()
    return normed_conv(channels, channels, {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])


class CellLayers(nn.Module):
    """node_i = sum over the edges (i, j) of edge(node_j), node_0 = x; the output is the last node."""

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(operation(OPERATIONS[i], channels) for i in cell.operations)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in range(1, NODES):
            inputs = [
                edge(nodes[source])
                for edge, (target, source) in zip(self.edges, EDGES, strict=True)
                if target == node
            ]
            total = inputs[0]
            for y in inputs[1:]:
                total = total + y
            nodes.append(total)
        return nodes[-1]


class CellNetwork(nn.Module):
    """Normalisation, 3x3 convolution and norm, three stages of cells with reductions between them, norm and
    ReLU, mean over the pixels, linear layer.

    `make_cell` makes a cell for its number of channels. Images (N, in_channels, H, W) in [0, 1] of any size
    to logits (N, num_classes). Edges that the output of `CellLayers` does not depend on are computed, too,
    and counted, as in the benchmark.
    """

    def __init__(
        self,
        make_cell: Callable[[int], nn.Module],
        num_classes: int,
        in_channels: int = 3,
        *,
        channels: int = 16,
        cells: int = 5,
        reduction: Reduction = "resnet",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name, number in {"channels": channels, "cells": cells}.items():
            a_whole_number(name, number, ModelError, most=MOST)
        check_reduction(reduction)
        self.normal = Normalize.for_channels(in_channels, mean, std)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layers = nn.Sequential()
        for stage in range(STAGES):
            if stage:
                self.layers.append(reduction_block(channels, 2 * channels, reduction))
                channels *= 2
            self.layers.extend(make_cell(channels) for _ in range(cells))
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layers(self.before(x)))

    def before(self, x: Tensor) -> Tensor:
        """The input of the first layer."""
        h: Tensor = self.bn1(self.conv1(self.normal(x)))
        return h

    def after(self, h: Tensor) -> Tensor:
        """Logits of the output of the last layer."""
        logits: Tensor = self.linear(relu(self.bn(h)).mean((2, 3)))
        return logits


def nas_bench_201(
    num_classes: int,
    in_channels: int = 3,
    *,
    cell: str | Cell | None = None,
    channels: int = 16,
    cells: int = 5,
    reduction: Reduction = "resnet",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> CellNetwork:
    """The network that NAS-Bench-201 trains for a cell, with plain norms; 16 channels and 5 cells a stage.

    - cell: its architecture string; it has no default.
    - channels, cells: channels of the first stage, and cells in each of the three stages.
    - reduction: "resnet" as in the benchmark, or "pool" without its 3x3 convolutions.

    Raises ModelError without a cell, and for options out of range. Dong & Yang, ICLR 2020, "NAS-Bench-201".
    """
    if cell is None:
        raise ModelError(f"nas-bench-201 needs the option cell, an architecture string such as {EXAMPLE}")
    parsed = cell if isinstance(cell, Cell) else Cell.parse(cell)
    return CellNetwork(
        partial(CellLayers, parsed),
        num_classes,
        in_channels,
        channels=channels,
        cells=cells,
        reduction=reduction,
        mean=mean,
        std=std,
    )
