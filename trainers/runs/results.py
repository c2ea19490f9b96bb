"""How finished runs of a task are read from their records, compared and shown on a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.table import Table

import robustsabn.config
from robustsabn.report.console import result_table
from robustsabn.trainers.checkpoints.edited import trained_with
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.runs.config_diff import settings
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column, Measured, columns_of
from robustsabn.trainers.runs.metrics import Point, Record
from robustsabn.trainers.runs.pages.page import (
    Page,
    PageTable,
    Remark,
    Tile,
    closing_records,
    course_charts,
    last_pictures,
    length_text,
    loss_chart,
)
from robustsabn.trainers.tracking.charts import Charts

__all__ = ["C", "EndedRun", "M", "Results"]

C = TypeVar("C", bound=RunConfig)
M = TypeVar("M", bound=Measured)


@dataclass(frozen=True, kw_only=True)
class EndedRun(Generic[M]):
    """A finished run with the closing evaluation of its best checkpoint.

    `numbers`: its measurements and `training_seconds`; `averaged`: the measurements of averaged weights, by
    their names. `courses`: numbers of the validations over epochs.
    """

    folder: Path
    seed: int
    settings: dict[str, Any]
    evaluation: M
    numbers: dict[str, float]
    averaged: dict[str, dict[str, float]]
    courses: dict[str, tuple[Point, ...]]

    @property
    def all_numbers(self) -> dict[str, float]:
        """`numbers`, and those of averaged weights by names such as `ema_clean_accuracy`."""
        averaged = {
            f"{average}_{name}": value
            for average, values in self.averaged.items()
            for name, value in values.items()
        }
        return self.numbers | averaged


class Results(Generic[C, M]):
    """How runs of a task are read and shown.

    `measured` is the class of its evaluations. `columns` has the headings of their numbers; numbers without
    one are headed by their names. `pictures` has headings for the tags of `Monitor.picture`. `charts` are
    those of TensorBoard. A task with special needs overrides methods.
    """

    def __init__(
        self,
        measured: type[M],
        *,
        columns: Mapping[str, Column] | None = None,
        pictures: Mapping[str, str] | None = None,
        charts: Charts | None = None,
    ) -> None:
        self.measured, self.described, self.pictures = measured, dict(columns or {}), dict(pictures or {})
        self.charts = charts or Charts()

    def read(self, record: Record) -> M:
        """The evaluation in a record of metrics.jsonl."""
        names = {field.name for field in fields(self.measured)}
        return self.measured(**{name: record[name] for name in names & record.keys()})

    def closing(self, records: Sequence[Record], kind: str = "test") -> M | None:
        """The closing evaluation of the best checkpoint, or another `kind`.

        None if the run has none, or continued after it.
        """
        tests = [record for record in records if record["kind"] == kind][-1:]
        over = tests and all(record["step"] <= tests[0]["step"] for record in records)
        return self.read(tests[0]) if over else None

    def config(self, folder: RunFolder, cls: type[C]) -> C:
        """The configuration of a run.

        Raises CheckpointError if it is missing or was edited after training.
        """
        return robustsabn.config.load(cls, trained_with(folder, cls))

    def settings(self, config: C, measured: M) -> dict[str, Any]:
        """All settings except the seed, by dotted key; runs with equal settings form one group."""
        return settings(config)

    def later(self, folder: RunFolder, config: C, measured: M) -> dict[str, float]:
        """Numbers that were measured after the closing evaluation `measured`."""
        return {}

    def courses(self, records: Sequence[Record]) -> dict[str, list[Point]]:
        """Numbers of the validations over steps, by name."""
        curves: dict[str, list[Point]] = {}
        for record in records:
            if record["kind"] == "validation":
                for name, value in self.read(record).numbers().items():
                    curves.setdefault(name, []).append((record["step"], value))
        return curves

    def named(self, names: Iterable[str]) -> dict[str, Column]:
        """A column for each of these numbers; first those that the task describes, in its order."""
        known = dict.fromkeys(names)
        first = {name: column for name, column in self.described.items() if name in known}
        return first | columns_of(name for name in known if name not in first)

    def columns(self, runs: Sequence[EndedRun[M]]) -> dict[str, Column]:
        """The columns of a table of these runs, in order."""
        return self.named(name for run in runs for name in run.numbers)

    def curves(self, runs: Sequence[EndedRun[M]]) -> dict[str, Column]:
        """The courses of these runs that are drawn as curves."""
        return self.named(name for run in runs for name in run.courses)

    def table(self, measured: M, title: str) -> Table:
        """The table of an evaluation for the terminal."""
        numbers = measured.numbers()
        columns = self.named(numbers)
        cells = [column.text(numbers[name]) for name, column in columns.items()]
        return result_table(title, [column.heading for column in columns.values()], [cells])

    def page(self, config: C, folder: RunFolder, records: Sequence[Record]) -> Page:
        """The page of a run."""
        closings = [(title, self.read(record)) for title, record in closing_records(records)]
        courses = self.courses(records)
        return Page(
            setting=f"{config.task} on {config.data}, {length_text(config)}, seed {config.seed}.",
            tiles=self._tiles(closings[0][1]) if closings else (),
            remarks=[
                Remark("warning", "Warning.", measured.warning)
                for _, measured in closings
                if measured.warning
            ],
            charts=[*course_charts(courses, self.named(courses)), *loss_chart(records)],
            tables=[self._closings(closings)] if any(m.numbers() for _, m in closings) else (),
            pictures=last_pictures(folder.tb, self.pictures),
        )

    def _tiles(self, measured: M) -> list[Tile]:
        numbers = measured.numbers()
        return [
            Tile(column.heading, column.text(numbers[name])) for name, column in self.named(numbers).items()
        ]

    def _closings(self, closings: Sequence[tuple[str, M]]) -> PageTable:
        numbers = {title: measured.numbers() for title, measured in closings}
        columns = self.named(name for values in numbers.values() for name in values)
        rows = [
            [
                title,
                *(column.text(values[name]) if name in values else "" for name, column in columns.items()),
            ]
            for title, values in numbers.items()
        ]
        head = ["weights", *(column.heading for column in columns.values())]
        return PageTable(title="Closing evaluations", head=head, rows=rows, note=closings[0][1].protocol)
