"""A table of trained cells as the judge: ranks of the found cell, and of the paths of the supernet."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch

from robustsabn.errors import ConfigError
from robustsabn.nas import Cell
from robustsabn.nas.agreement import kendall_tau, spearman_rho
from robustsabn.nas.scores import score
from robustsabn.nas.sources import open_table
from robustsabn.text import nearest, quote
from robustsabn.trainers.nas.config import NasConfig

__all__ = ["NO_TABLE", "Judge", "sample_cells"]

NO_TABLE = (
    "no table: the found cell gets no rank, and the supernet no tau; give table=FILE.csv, or the folder of "
    "NATS-Bench's file NATS-tss-v1_0-3ffb9-simple.tar from github.com/D-X-Y/NATS-Bench (docs/nas.md)"
)

SEED = 0
"""The seed of the sample of cells: the same in all validations and runs."""


def sample_cells(cells: Sequence[Cell], n: int) -> tuple[Cell, ...]:
    """At most `n` different cells of `cells`, drawn with a fixed seed."""
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(SEED))
    return tuple(cells[i] for i in order[:n].tolist())


class Judge:
    """The table of a configuration and the data set whose accuracies rank the cells.

    Raises ConfigError if the table does not have the data set.
    """

    def __init__(self, config: NasConfig) -> None:
        assert config.table is not None
        self.table = open_table(config.table)
        self.dataset = _dataset(config, self.table.datasets)
        self.n = config.validation.cells

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The sample of cells by which the ranking of the supernet is judged."""
        return sample_cells(self.table.cells, self.n)

    def agreement(self, ours: Sequence[float]) -> dict[str, Any]:
        """Kendall's tau and Spearman's rho of accuracies `ours` of `cells` and those of the table."""
        theirs = [self.table.accuracy(cell, self.dataset) for cell in self.cells]
        tau, rho = kendall_tau(ours, theirs), spearman_rho(ours, theirs)
        return {"kendall_tau": tau, "spearman_rho": rho, "cells": len(self.cells)}

    def place(self, cell: Cell) -> dict[str, Any]:
        """Where `cell` stands in the table; nothing if the table does not have it."""
        if cell not in self.table:
            return {}
        placed = score(self.table, cell)
        own = placed[self.dataset]
        return {
            "placed": {name: asdict(each) for name, each in placed.items()},
            "dataset": self.dataset,
            "table_accuracy": own.accuracy,
            "rank": own.rank,
            "regret": own.regret,
        }

    def place_by(self, accuracy: float) -> dict[str, Any]:
        """Where a cell of this accuracy, which the table does not have, would stand in it."""
        best = self.table.accuracy(self.table.best(self.dataset), self.dataset)
        rank = self.table.rank_of(100 * accuracy, self.dataset)
        return {"dataset": self.dataset, "rank": rank, "regret": best / 100 - accuracy}


def _dataset(config: NasConfig, known: Sequence[str]) -> str:
    if config.dataset is not None:
        if config.dataset not in known:
            raise ConfigError(
                f"dataset: {quote(config.dataset)} is not in the table{nearest(config.dataset, known)}; it "
                f"has {', '.join(known)}"
            )
        return config.dataset
    name = config.data.partition(":")[0]
    if name in known or len(known) == 1:
        return name if name in known else known[0]
    raise ConfigError(
        f"dataset: the table has {', '.join(known)}; give dataset=NAME, the one that {config.data} is"
    )
