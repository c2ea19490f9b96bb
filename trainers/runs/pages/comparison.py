"""Shows a comparison of runs: a table in the terminal and an HTML page with charts."""

import json
import re
from collections.abc import Sequence
from math import ceil, floor
from pathlib import Path
from statistics import fmean

from markupsafe import Markup
from rich.console import Console

from robustsabn.files import write_text
from robustsabn.report.console import fitted, output
from robustsabn.report.links import address, beside, link_to, write_csv
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.runs.comparison import Comparison, Group
from robustsabn.trainers.runs.config_diff import words
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column
from robustsabn.trainers.runs.metrics import Point
from robustsabn.trainers.runs.provenance import read_provenance

__all__ = [
    "comparison_title",
    "every_run",
    "made_with",
    "mean_cells",
    "print_comparison",
    "remarks_on",
    "unbroken",
    "write_comparison_page",
]

_SPREAD = "Mean ± standard deviation over the seeds"


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, a line for each skipped run, and warnings about the comparison."""
    console = console or output()
    for table in fitted(comparison_title(comparison), *mean_cells(comparison), console.width):
        console.print(table)
    for group in _unnamed(comparison):
        console.print(f"{group.name}: {words(group.differing)}", markup=False)
    for line in comparison.skipped:
        console.print(f"skipped: {line}", markup=False)
    for line in comparison.warnings:
        console.print(f"warning: {line}", markup=False, style="bold red")


def write_comparison_page(comparison: Comparison, target: Path, title: str | None = None) -> list[Path]:
    """Write a self-contained HTML page: the table, validation accuracy over epochs, every run.

    The numbers are beside it, as NAME.csv and NAME.json. Returns the files.
    """
    table, numbers = beside(target, ".csv"), beside(target, ".json")
    write_csv(table, *comparison.rows())
    write_text(numbers, json.dumps(comparison.to_dict(), indent=2, allow_nan=False) + "\n")
    head, rows = mean_cells(comparison)
    page = render(
        "comparison.html",
        title=title or f"{len(comparison.runs)} runs compared",
        measured=comparison_title(comparison),
        remarks=remarks_on(comparison),
        means=(head, unbroken(rows)),
        differences=[(group.name, words(group.differing)) for group in _unnamed(comparison)],
        curves=[_curve(comparison, name, column) for name, column in comparison.curves.items()],
        every_run=every_run(comparison, target),
        made=made_with(comparison, target),
        files=[(file.name, address(Path(file.name))) for file in (table, numbers)],
    )
    write_text(target, page)
    return [target, table, numbers]


def remarks_on(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The warnings, and what was left out, for a page."""
    return [
        *(("warning", "Warning.", f"{line[0].upper()}{line[1:]}.") for line in comparison.warnings),
        *(("note", "Left out.", line) for line in comparison.skipped),
    ]


def _unnamed(comparison: Comparison) -> list[Group]:
    """The groups whose names do not show their differing settings."""
    return [group for group in comparison.groups if group.differing and group.name != words(group.differing)]


def unbroken(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows with no-break spaces in all cells but the first and links."""
    return [[row[0], *map(_unbroken, row[1:])] for row in rows]


def _unbroken(cell: str) -> str:
    return cell if isinstance(cell, Markup) else cell.replace(" ", "\N{NO-BREAK SPACE}")


def comparison_title(comparison: Comparison) -> str:
    """What the numbers are, and how they were measured."""
    protocols = {run.evaluation.protocol for run in comparison.runs}
    return f"{_SPREAD}; {protocols.pop()}" if len(protocols) == 1 and all(protocols) else _SPREAD


def mean_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the table of means, a row for each group and kind of weights."""
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


def every_run(comparison: Comparison, page: Path) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the table of single runs; their names are links to their pages."""
    rows = []
    for group in comparison.groups:
        for run in group.runs:
            for prefix in ("", *(f"{name}_" for name in run.averaged)):
                values = {name: run.all_numbers.get(prefix + name) for name in comparison.columns}
                cells = [
                    "" if (value := values[name]) is None else column.text(value)
                    for name, column in comparison.columns.items()
                ]
                name = link_to(_weights(group.name, prefix), run.folder / "report" / "index.html", page)
                rows.append([name, str(run.seed), *cells, str(run.folder)])
    return ["run", "seed", *(column.heading for column in comparison.columns.values()), "folder"], unbroken(
        rows
    )


def made_with(comparison: Comparison, page: Path) -> tuple[list[tuple[str, str]], list[str], list[list[str]]]:
    """What the runs were computed with: what all share, and the head and the rows of what differs."""
    facts = {run.folder: dict(read_provenance(RunFolder(run.folder)).facts()) for run in comparison.runs}
    names = dict.fromkeys(name for own in facts.values() for name in own)
    alike = [name for name in names if len({own.get(name) for own in facts.values()}) == 1]
    head = [name for name in names if name not in alike]
    rows = [
        [
            link_to(str(folder), folder / "provenance.json", page),
            *(_short(own.get(name, "")) for name in head),
        ]
        for folder, own in facts.items()
    ]
    shared = next(iter(facts.values()))
    return [(name, shared[name]) for name in alike], ["run", *head], unbroken(rows) if head else []


def _short(text: str) -> str:
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text


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
