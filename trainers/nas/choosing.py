"""Random search: the best of random cells, by shared weights or each trained from scratch."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robustsabn.models.nas import Supernet
from robustsabn.nas import Cell
from robustsabn.trainers.loop.draws import derive, generator
from robustsabn.trainers.loop.updates import Update
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.networks import build_supernet
from robustsabn.trainers.nas.search.searchers import random_cells

__all__ = ["Trials", "best_of", "candidates"]


def candidates(config: NasConfig) -> tuple[Cell, ...]:
    """The cells among which random search with shared weights chooses, by the seed of the run."""
    return random_cells(config.candidates, generator("cpu", config.seed, "candidates"))


def best_of(cells: Sequence[Cell], accuracies: Sequence[float]) -> Cell:
    """The first of the cells with the highest accuracy; the first one of all without accuracies."""
    return cells[max(range(len(accuracies)), key=accuracies.__getitem__, default=0)]


class Trials:
    """Random search without sharing: one random cell after the other is trained from random weights.

    The cell, its weights and its steps depend only on (seed, number of the trial), so a run that is resumed
    inside a trial continues it. `accuracies` are those of the finished trials.
    """

    def __init__(self, config: NasConfig, supernet: Supernet, per_epoch: int, total: int) -> None:
        self.config, self.supernet, self.total = config, supernet, total
        self.length = config.trial_epochs * per_epoch
        self.count = max(1, total // self.length)
        self.cells = random_cells(self.count, generator("cpu", config.seed, "trials"))
        self.accuracies: list[float] = []

    def at(self, step: int) -> tuple[Cell, int, int]:
        """The cell of step `step`, the number of the step in its trial, and the length of the trial.

        The last trial also has the steps that are left.
        """
        number = min(step // self.length, self.count - 1)
        first = number * self.length
        last = self.total if number == self.count - 1 else first + self.length
        return self.cells[number], step - first, last - first

    def begin(self, step: int, update: Update) -> None:
        """Random weights and an optimiser without momentum, for the trial that begins at step `step`."""
        seed = derive(self.config.seed, "trial", step // self.length)
        classes, channels = self.supernet.linear.out_features, self.supernet.conv1.in_channels
        self.supernet.load_state_dict(build_supernet(self.config, classes, channels, seed=seed).state_dict())
        update.optimizer.state.clear()

    @property
    def best(self) -> Cell:
        """The best of the cells that are finished; the first one until one is."""
        return best_of(self.cells, self.accuracies)

    def carried(self) -> dict[str, Tensor]:
        """The accuracies, to be kept by a checkpoint."""
        return {"accuracies": torch.tensor(self.accuracies)} if self.accuracies else {}

    def restore(self, carried: Mapping[str, Tensor], step: int) -> None:
        """Take up the accuracies that `carried` gave, once for each process, after `step` steps."""
        kept = carried.get("accuracies", torch.empty(0))
        done = self.count if step >= self.total else step // self.length
        self.accuracies = kept[: min(done, self.count)].tolist()
