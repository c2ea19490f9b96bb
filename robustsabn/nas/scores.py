"""What a table says about a cell: accuracy, rank and costs on each data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustsabn.nas.cell import Cell
from robustsabn.nas.costs import costs
from robustsabn.nas.table import Table

__all__ = ["NETWORKS", "Score", "score"]

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "cifar10": {"num_classes": 10},
    "cifar100": {"num_classes": 100},
    "imagenet16-120": {"num_classes": 120, "image_size": 16},
    "digits-hard": {
        "num_classes": 10,
        "image_size": 8,
        "in_channels": 1,
        "channels": 8,
        "cells": 1,
        "reduction": "pool",
    },
}
"""The arguments of `costs` for the networks whose accuracies a data set of a table has."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A cell in a table: `accuracy` and `regret` as shares, `percentile` in percent, `rank` of `cells`.

    `flops` and `parameters` are None where the network of the table is not known.
    """

    accuracy: float
    rank: int
    cells: int
    percentile: float
    regret: float
    flops: int | None = None
    parameters: int | None = None


def score(table: Table, cell: Cell) -> dict[str, Score]:
    """The score of `cell` on each data set of the table; ModelError if the table does not have it."""
    return {dataset: _score(table, cell, dataset) for dataset in table.datasets}


def _score(table: Table, cell: Cell, dataset: str) -> Score:
    cost = costs(cell, **NETWORKS[dataset]) if dataset in NETWORKS else None
    return Score(
        accuracy=round(table.accuracy(cell, dataset) / 100, 8),
        rank=table.rank(cell, dataset),
        cells=len(table),
        percentile=table.percentile(cell, dataset),
        regret=round(table.regret(cell, dataset) / 100, 8),
        flops=cost and cost.flops,
        parameters=cost and cost.parameters,
    )
