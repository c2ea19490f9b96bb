"""Shows a comparison of runs: a table in the terminal and an HTML page with charts."""

from collections.abc import Sequence
from math import ceil, floor
from pathlib import Path
from statistics import fmean

from robustsabn.files import write_text
from robustsabn.report.console import output, result_table
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.runs.comparison import Comparison, Group
from robustsabn.trainers.runs.config_diff import words
from robustsabn.trainers.runs.measured import Column
from robustsabn.trainers.runs.metrics import Point

__all__ = ["print_comparison", "write_comparison_page"]

_SPREAD = "Mean ± standard deviation over the seeds"


def print_comparison(comparison: Comparison) -> None:
    """Print the table, a line for each skipped run, and warnings about the comparison."""
    console = output()
    console.print(result_table(_title(comparison), *_cells(comparison)))
    for group in _unnamed(comparison):
        console.print(f"{group.name}: {words(group.differing)}", markup=False)
    for line in comparison.skipped:
        console.print(f"skipped: {line}", markup=False)
    for line in comparison.warnings:
        console.print(f"warning: {line}", markup=False, style="bold red")


def write_comparison_page(comparison: Comparison, target: Path) -> None:
    """Write a self-contained HTML page: the table, validation accuracy over epochs, every run."""
    (head, rows), (single, every) = _cells(comparison), _single(comparison)
    page = render(
        "comparison.html",
        title=f"{len(comparison.runs)} runs compared",
        measured=_title(comparison),
        remarks=[
            *(("warning", "Warning.", line) for line in comparison.warnings),
            *(("note", "Left out.", line) for line in comparison.skipped),
        ],
        means=(head, _unbroken(rows)),
        differences=[(group.name, words(group.differing)) for group in _unnamed(comparison)],
        curves=[_curve(comparison, name, column) for name, column in comparison.curves.items()],
        every_run=(single, _unbroken(every)),
    )
    write_text(target, page)


def _unnamed(comparison: Comparison) -> list[Group]:
    """The groups whose names do not show their differing settings."""
    return [group for group in comparison.groups if group.differing and group.name != words(group.differing)]


def _unbroken(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows with no-break spaces in all cells but the first."""
    return [[row[0], *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in row[1:])] for row in rows]


def _title(comparison: Comparison) -> str:
    protocols = {run.evaluation.protocol for run in comparison.runs}
    return f"{_SPREAD}; {protocols.pop()}" if len(protocols) == 1 and all(protocols) else _SPREAD


def _cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    rows = []
    for group in comparison.groups:
        for prefix in ("", *sorted({f"{name}_" for run in group.runs for name in run.averaged})):
            cells = (_cell(group, prefix + number, column) for number, column in comparison.columns.items())
            rows.append([_weights(group.name, prefix), str(len(group.runs)), *cells])
    return ["runs", "seeds", *(column.head for column in comparison.columns.values())], rows


def _weights(name: str, prefix: str) -> str:
    """The name of a row; `prefix`, such as `ema_`, is that of the numbers of averaged weights."""
    return f"{name}, {prefix.removesuffix('_').upper()}" if prefix else name


def _cell(group: Group, number: str, column: Column) -> str:
    spread = group.spread(number)
    if spread is None:
        return ""
    some = f" ({spread.n} of {len(group.runs)})" if spread.n < len(group.runs) else ""
    return f"{column.spread(spread.mean, spread.deviation)}{some}"


def _single(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    rows = []
    for group in comparison.groups:
        for run in group.runs:
            for prefix in ("", *(f"{name}_" for name in run.averaged)):
                values = {name: run.all_numbers.get(prefix + name) for name in comparison.columns}
                cells = [
                    "" if (value := values[name]) is None else column.text(value)
                    for name, column in comparison.columns.items()
                ]
                rows.append([_weights(f"{group.name}, seed {run.seed}", prefix), *cells, str(run.folder)])
    return ["run", *(column.heading for column in comparison.columns.values()), "folder"], rows


def _curve(comparison: Comparison, name: str, column: Column) -> tuple[Plot | None, str]:
    single = {
        group.name: [
            [(epoch, column.scaled(value)) for epoch, value in run.courses.get(name, ())]
            for run in group.runs
        ]
        for group in comparison.groups
    }
    means = {name: _mean(courses) for name, courses in single.items()}
    several = {name: courses for name, courses in single.items() if len(courses) > 1}
    values = [value for courses in single.values() for course in courses for _, value in course]
    span = _span(values) if column.unit == "%" else None
    plot = lines(means, f"validation, {column.heading}", "epoch", column.axis, y_range=span, thin=several)
    seeds = ", and each seed as a thin line" if several else ""
    return (
        plot,
        f"{column.axis[0].upper()}{column.axis[1:]} at each validation: the mean of the seeds{seeds}.",
    )


def _span(values: Sequence[float]) -> tuple[float, float] | None:
    """The range of the values, extended to round numbers."""
    if not values:
        return None
    step = 20 if max(values) - min(values) > 40 else 5
    return step * floor(min(values) / step), step * max(
        ceil(max(values) / step), floor(min(values) / step) + 1
    )


def _mean(courses: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean curve over the epochs that all curves have."""
    values = [dict(course) for course in courses]
    common = [epoch for epoch, _ in courses[0] if all(epoch in each for each in values)]
    return [(epoch, fmean(each[epoch] for each in values)) for epoch in common]
