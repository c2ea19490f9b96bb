"""The measurements of a search, and how finished searches are compared and shown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from robustsabn.errors import CheckpointError
from robustsabn.nas import Cell
from robustsabn.report.console import result_table
from robustsabn.report.numbers import percent
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column, Measured
from robustsabn.trainers.runs.metrics import Record, read_records
from robustsabn.trainers.runs.pages.page import Page, PageTable
from robustsabn.trainers.runs.results import EndedRun, Results
from robustsabn.trainers.tracking.charts import Chart, Charts

__all__ = ["RESULTS", "NasEvaluation", "found_cell", "last_evaluation"]

COLUMNS = {
    "table_accuracy": Column("test accuracy in the table", "%"),
    "scratch_accuracy": Column("accuracy trained from scratch", "%"),
    "rank": Column("rank"),
    "regret": Column("regret", "%"),
    "kendall_tau": Column("Kendall's tau"),
    "spearman_rho": Column("Spearman's rho"),
    "accuracy": Column("accuracy of the mixture", "%"),
    "path_accuracy": Column("accuracy of the found path", "%"),
    "skips": Column("skips"),
    "flops": Column("FLOPs"),
    "parameters": Column("parameters"),
}
CURVES = ("accuracy", "path_accuracy", "kendall_tau", "spearman_rho", "table_accuracy", "rank", "skips")
COMPARED = (*(name for name in COLUMNS if name not in ("flops", "parameters")), "training_seconds")


@dataclass(frozen=True, kw_only=True)
class NasEvaluation(Measured):
    """The state of a search; numbers are None where nothing measures them.

    - cell: the found cell as a string of NAS-Bench-201.
    - accuracy, path_accuracy: of the mixture and of the path `cell` of the supernet, on held-out images.
    - kendall_tau, spearman_rho: of the supernet's paths against the table, on a sample of `cells` cells.
    - placed: `cell` in the table, by data set; dataset: the one that `table_accuracy` and the ranks are of.
    - scratch_accuracy: on test images, of the cell trained alone: the mean of `scratch`.
    - architecture: weights of the operations on each edge, (6, 5).
    - seconds: what measuring took; asked: the settings of the closing evaluation.
    """

    cell: str
    images: int
    skips: int
    flops: int
    parameters: int
    accuracy: float | None = None
    path_accuracy: float | None = None
    kendall_tau: float | None = None
    spearman_rho: float | None = None
    cells: int = 0
    dataset: str = ""
    table_accuracy: float | None = None
    rank: int | None = None
    regret: float | None = None
    scratch: tuple[float, ...] = ()
    scratch_accuracy: float | None = None
    placed: dict[str, dict[str, float]] = field(default_factory=dict)
    architecture: tuple[tuple[float, ...], ...] = ()
    seconds: float | None = None
    asked: str = ""

    def numbers(self) -> dict[str, float]:
        values = {name: getattr(self, name) for name in COLUMNS}
        return {name: float(value) for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "", (), {})}

    @property
    def protocol(self) -> str:
        return f"supernet: {self.images} held-out images" + (f"; ranks: {self.dataset}" * bool(self.dataset))

    def measurement(self) -> dict[str, Any]:
        return {"images": self.images, "cells": self.cells, "dataset": self.dataset, "cell": self.cell}

    def __str__(self) -> str:
        words = [] if self.accuracy is None else [f"mixture {percent(self.accuracy, 1)}"]
        if self.kendall_tau is not None:
            words.append(f"tau {self.kendall_tau:.2f}")
        if self.table_accuracy is not None and self.rank is not None:
            words.append(f"table {percent(self.table_accuracy)}, rank {self.rank:,}")
        return "  ".join([*words, self.cell])


class NasResults(Results[NasConfig, NasEvaluation]):
    """Results of searches."""

    def columns(self, runs: Sequence[EndedRun[NasEvaluation]]) -> dict[str, Column]:
        return self.named(name for run in runs for name in run.numbers if name in COMPARED)

    def courses(self, records: Sequence[Record]) -> dict[str, list[tuple[float, float]]]:
        return {name: points for name, points in super().courses(records).items() if name in CURVES}

    def table(self, measured: NasEvaluation, title: str) -> Table:
        return result_table(f"{title}\n{measured.cell}", ["measured", ""], _rows(measured))

    def page(self, config: NasConfig, folder: RunFolder, records: Sequence[Record]) -> Page:
        page = super().page(config, folder, records)
        large = {COLUMNS[name].heading for name in ("flops", "parameters")}  # the table writes them out
        page = replace(page, tiles=[tile for tile in page.tiles if tile.name not in large])
        last = self.closing(records)
        if last is None:
            return page
        found = PageTable(title="The found cell", head=["measured", ""], rows=_rows(last), note=last.cell)
        return replace(page, tables=[found])


def found_cell(folder: str | Path) -> Cell:
    """The cell that the run in `folder` has found so far. Raises CheckpointError if it is no search."""
    return Cell.parse(_last_record(folder)["cell"])


def last_evaluation(folder: str | Path) -> NasEvaluation:
    """The last evaluation of the run in `folder`. Raises CheckpointError if it is no search."""
    return RESULTS.read(_last_record(folder))


def _last_record(folder: str | Path) -> Record:
    place = RunFolder(folder)
    records = [record for record in read_records(place.metrics) if "cell" in record]
    if not records:
        raise CheckpointError(
            f"{place.path} has found no cell: it is no run of a search, or was not validated"
        )
    return records[-1]


def _rows(measured: NasEvaluation) -> list[list[str]]:
    numbers = measured.numbers()
    rows = []
    for name, place in measured.placed.items():
        rank = f"rank {place['rank']:,} of {place['cells']:,} (percentile {place['percentile']:.1f})"
        regret = f"regret {percent(place['regret'])}"
        rows.append(
            [f"{name}, test accuracy in the table", f"{percent(place['accuracy'])}, {rank}, {regret}"]
        )
    if measured.scratch_accuracy is not None:
        by_it = measured.rank is not None and not measured.placed
        rank = f", which is rank {measured.rank:,} in {measured.dataset}" if by_it else ""
        rows.append([COLUMNS["scratch_accuracy"].heading, percent(measured.scratch_accuracy) + rank])
    shown = ("accuracy", "path_accuracy", "kendall_tau", "spearman_rho", "skips")
    rows += [[COLUMNS[name].heading, COLUMNS[name].text(numbers[name])] for name in shown if name in numbers]
    rows.append(["FLOPs", f"{measured.flops / 1e6:.2f} M"])
    rows.append(["parameters", f"{measured.parameters:,}"])
    return rows


CHARTS = Charts(
    title="architecture search",
    shown=(
        Chart(
            title="accuracy of the supernet",
            tags={
                "validation/accuracy": "accuracy/mixture",
                "validation/path_accuracy": "accuracy/found path",
            },
        ),
        Chart(
            title="test accuracy of the found cell in the table",
            tags={"validation/table_accuracy": "accuracy/found cell"},
        ),
        Chart(
            title="agreement with the table",
            tags={
                "validation/kendall_tau": "ranking/kendall tau",
                "validation/spearman_rho": "ranking/spearman rho",
            },
        ),
    ),
    further=(
        Chart(title="rank of the found cell", tags={"validation/rank": "ranking/rank"}),
        Chart(title="skips in the found cell", tags={"validation/skips": "found cell/skips"}),
        Chart(
            title="loss",
            tags={"train/loss": "loss/weights", "train/architecture_loss": "loss/architecture"},
        ),
        Chart(title="learning rate of the architecture", tags={"train/lr_architecture": "rate/architecture"}),
    ),
    left_out=(
        "*/images",
        "*/cells",
        "*/seconds",
        "*/placed/*",
        "test/flops",
        "test/parameters",
        "test/skips",
    ),
)
RESULTS = NasResults(
    NasEvaluation,
    charts=CHARTS,
    columns=COLUMNS,
    pictures={
        "architecture/weights": "Weights of the operations on each edge, over epochs",
        "architecture/cell": "The cell found so far",
    },
)
