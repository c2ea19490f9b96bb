"""Evaluations of a search: accuracies of the supernet, agreement with a table, and the found cell."""

import time
from dataclasses import replace
from statistics import fmean
from typing import Any

from torch import Tensor

from robustsabn.nas import Cell, costs
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.division import Division
from robustsabn.trainers.nas.networks import Accuracies
from robustsabn.trainers.nas.pictures import cell_graph, weights_over_epochs
from robustsabn.trainers.nas.results import RESULTS, NasEvaluation
from robustsabn.trainers.nas.scoring import Judge
from robustsabn.trainers.nas.scratch import scratch
from robustsabn.trainers.processes.distributed import shared
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["Evaluator"]

ROBUST = "robustsabn train RECIPE model=nas-bench-201"
"""The beginning of the command that trains a found cell."""


class Evaluator:
    """Measures the supernet on held-out images, places the found cell in the table, and draws both."""

    def __init__(
        self,
        run: Run[NasConfig],
        division: Division,
        judge: Judge | None,
        monitor: Monitor,
        per_epoch: int,
        accuracies: Accuracies,
    ) -> None:
        self.run, self.config, self.division, self.judge = run, run.config, division, judge
        self.monitor, self.per_epoch, self.accuracies = monitor, per_epoch, accuracies
        self.known: tuple[int, NasEvaluation | None] = (-1, None)  # the last step that was measured

    def validate(
        self, step: int, kind: str, heading: str, cell: Cell, weights: Tensor | None
    ) -> NasEvaluation:
        """Measure after `step` steps; `weights` (6, 5) are those of the mixture, if there is one."""
        measured = self._measured(step, cell, weights)
        self.known = step, measured
        self.monitor.say(f"{heading}  {measured}")
        self.monitor.record(kind, step, measured.to_dict())
        if self.monitor.active:
            self._draw(step, cell)
        return measured

    def close(self, step: int, kind: str, heading: str, cell: Cell, weights: Tensor | None) -> NasEvaluation:
        """Measure at the end, train the cell from scratch if asked to, and print a table."""
        known, measured = self.known
        if measured is None or known != step or measured.cell != str(cell):
            measured = self._measured(step, cell, weights)
        measured = replace(measured, asked=self.config.asked)
        if self.config.test.epochs is not None:
            measured = replace(measured, **self._from_scratch(cell))
        self.monitor.table(RESULTS.table(measured, heading))
        if kind == "test":
            self.monitor.say(f"robust training of this cell: {ROBUST} model_options.cell='{cell}'")
        self.monitor.record(kind, step, measured.to_dict())
        return measured

    def _measured(self, step: int, cell: Cell, weights: Tensor | None) -> NasEvaluation:
        began, held_out, found = time.perf_counter(), self.division.held_out, dict[str, Any]()
        if weights is not None:
            (found["accuracy"],) = self.accuracies([weights], held_out, step)
            found["architecture"] = tuple(tuple(round(w, 6) for w in row) for row in weights.tolist())
        if self.judge is not None:
            found |= self.judge.place(cell)
        if self.config.search != "random":  # there, weights are of one cell alone
            sample = () if self.judge is None else self.judge.cells
            found["path_accuracy"], *ours = self.accuracies([cell, *sample], held_out)
            found |= {} if self.judge is None else self.judge.agreement(ours)
        data = self.division.data
        channels, *size = data.train.shape
        cost = costs(
            cell,
            num_classes=len(data.classes),
            image_size=size[0],
            in_channels=channels,
            channels=self.config.channels,
            cells=self.config.cells,
            reduction=self.config.reduction,
        )
        return NasEvaluation(
            cell=str(cell),
            images=len(held_out),
            skips=cell.skips,
            flops=cost.flops,
            parameters=cost.parameters,
            seconds=round(time.perf_counter() - began, 3),
            **found,
        )

    def _from_scratch(self, cell: Cell) -> dict[str, Any]:
        """Test accuracies of the cell trained alone; by their mean it gets a rank if the table lacks it."""
        found = shared(
            self.run.accelerator,
            lambda: scratch(self.config, self.division, cell, self.monitor, self.run.accelerator.device),
        )
        mean = fmean(found)
        lacking = self.judge is not None and cell not in self.judge.table
        place = self.judge.place_by(mean) if self.judge is not None and lacking else {}
        return {"scratch": tuple(found), "scratch_accuracy": mean, **place}

    def _draw(self, step: int, cell: Cell) -> None:
        drawn = [entry for entry in self.monitor.validations if "architecture" in entry]
        if drawn:
            epochs = [entry["step"] / self.per_epoch for entry in drawn]
            figure = weights_over_epochs(epochs, [entry["architecture"] for entry in drawn])
            self.monitor.figure("architecture/weights", figure, step)
        self.monitor.figure("architecture/cell", cell_graph(cell), step)
