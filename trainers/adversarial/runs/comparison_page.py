"""A comparison of runs for the reader: a table on the terminal, a page with plots."""

from collections.abc import Sequence
from itertools import chain
from math import ceil, floor
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustsabn.files import write_text
from robustsabn.report.numbers import duration, percent
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.adversarial.evaluation.metrics import AVERAGES
from robustsabn.trainers.adversarial.runs.comparison import Comparison, EndedRun, Group
from robustsabn.trainers.adversarial.runs.config_diff import words
from robustsabn.trainers.runs.metrics import Point

__all__ = ["tell_comparison", "write_comparison_page"]

_SPREAD = "Accuracy in %, mean ± standard deviation over the seeds"


def tell_comparison(found: Comparison) -> None:
    """Print the table, and a line on each run that was left out and on whatever keeps numbers from being compared."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:  # a file has no margin
        console.width = max(console.width, 200)
    head, rows = _cells(found)
    longest = max(len(word) for name, *_ in rows for word in name.split())
    shown = Table(title=_title(found), title_justify="left")
    for i, name in enumerate(head):
        shown.add_column(Text(name), justify="right" if i else "left", min_width=0 if i else longest)
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
    for group in _unnamed(found):
        console.print(f"{group.name}: {words(group.differing)}", markup=False)
    for line in found.skipped:
        console.print(f"skipped: {line}", markup=False)
    for line in found.warnings:
        console.print(f"warning: {line}", markup=False, style="bold red")


def write_comparison_page(found: Comparison, target: Path) -> None:
    """Write a page that needs no other file: the table, validation accuracy over epochs, every run."""
    (head, rows), (single, every) = _cells(found), _single(found)
    page = render(
        "comparison.html",
        title=f"{len(found.runs)} runs compared",
        measured=_title(found),
        remarks=[
            *(("warning", "Warning.", line) for line in found.warnings),
            *(("note", "Left out.", line) for line in found.skipped),
        ],
        means=(head, _unbroken(rows)),
        differences=[(group.name, words(group.differing)) for group in _unnamed(found)],
        curves=[_curve(found, "robust"), _curve(found, "clean")],
        every_run=(single, _unbroken(every)),
    )
    write_text(target, page)


def _unnamed(found: Comparison) -> list[Group]:
    """The groups whose names do not say in what they differ."""
    return [group for group in found.groups if group.differing and group.name != words(group.differing)]


def _unbroken(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows whose numbers stay in one line."""
    return [[row[0], *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in row[1:])] for row in rows]


def _title(found: Comparison) -> str:
    measured = {run.measured for run in found.runs}
    return f"{_SPREAD}; {measured.pop()}" if len(measured) == 1 else _SPREAD


def _headings(found: Comparison) -> dict[str, str]:
    """What is measured of any run, and its heading."""
    runs = [run.evaluation for run in found.runs]
    routed = {run.routes for run in runs if run.routes != ("all",)}
    first, last = ("", "")
    if routed:
        ends = {(routes[0], routes[-1]) for routes in routed}
        first, last = (f", {name} route" for name in (ends.pop() if len(ends) == 1 else ("first", "last")))
    attacks = {run.attack for run in runs}
    known = dict.fromkeys(chain.from_iterable(run.numbers for run in found.runs))
    headings = {
        "clean_accuracy": f"clean accuracy{first}",
        "clean_accuracy_last_route": f"clean accuracy{last}",
        "robust_accuracy": (attacks.pop() if len(attacks) == 1 else "PGD") + last,
    }
    every = {run.n for run in runs}
    for number in known:
        if number.startswith("autoattack"):
            n = int(number.rpartition("_")[2])
            headings[number] = f"AutoAttack{last}" + ("" if every == {n} else f", {n} images")
    headings["training_seconds"] = "training time"
    return {number: heading for number, heading in headings.items() if number in known}


def _cells(found: Comparison) -> tuple[list[str], list[list[str]]]:
    headings = _headings(found)
    rows = []
    for group in found.groups:
        for label, prefix in _weights(group.name, group.runs):
            cells = (_cell(group, prefix + number) for number in headings)
            rows.append([label, str(len(group.runs)), *cells])
    return ["runs", "seeds", *headings.values()], rows


def _weights(name: str, runs: Sequence[EndedRun]) -> list[tuple[str, str]]:
    """The best checkpoint and the averaged weights that some of the runs have: name of the row, prefix of its numbers."""
    averaged = [
        (f"{name}, {word}", f"{average}_")
        for average, word in AVERAGES.items()
        if any(f"{average}_robust_accuracy" in run.numbers for run in runs)
    ]
    return [(name, ""), *averaged]


def _cell(group: Group, number: str) -> str:
    spread = group.spread(number)
    if spread is None:
        return ""
    if number == "training_seconds":
        return duration(spread.mean)
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.2f}"
    some = f" ({spread.n} of {len(group.runs)})" if spread.n < len(group.runs) else ""
    return f"{100 * spread.mean:.2f}{deviation}{some}"


def _single(found: Comparison) -> tuple[list[str], list[list[str]]]:
    headings = _headings(found)

    def said(run: EndedRun, number: str) -> str:
        if number not in run.numbers:
            return ""
        return (duration if number == "training_seconds" else percent)(run.numbers[number])

    rows = [
        [label, *(said(run, prefix + number) for number in headings), str(run.folder)]
        for group in found.groups
        for run in group.runs
        for label, prefix in _weights(f"{group.name}, seed {run.seed}", [run])
    ]
    return ["run", *headings.values(), "folder"], rows


def _curve(found: Comparison, which: str) -> tuple[Plot | None, str]:
    single = {group.name: [_percents(getattr(run, which)) for run in group.runs] for group in found.groups}
    means = {name: _mean(courses) for name, courses in single.items()}
    several = {name: courses for name, courses in single.items() if len(courses) > 1}
    span = _span([value for courses in single.values() for course in courses for _, value in course])
    label = f"{which} validation accuracy"
    plot = lines(means, label, "epoch", "accuracy in %", y_range=span, thin=several)
    seeds = ", and each seed as a thin line" if several else ""
    return plot, f"{which.capitalize()} accuracy in % on held-out images: the mean of the seeds{seeds}."


def _percents(course: Sequence[Point]) -> list[Point]:
    return [(epoch, 100 * accuracy) for epoch, accuracy in course]


def _span(values: Sequence[float]) -> tuple[float, float] | None:
    """Round numbers around the values."""
    if not values:
        return None
    step = 20 if max(values) - min(values) > 40 else 5
    return step * floor(min(values) / step), step * max(
        ceil(max(values) / step), floor(min(values) / step) + 1
    )


def _mean(courses: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean course, at epochs that all have."""
    values = [dict(course) for course in courses]
    common = [epoch for epoch, _ in courses[0] if all(epoch in each for each in values)]
    return [(epoch, fmean(each[epoch] for each in values)) for epoch in common]
