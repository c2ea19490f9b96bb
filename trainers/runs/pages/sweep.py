"""The page of a sweep: its results over the swept keys, and links to the pages of its runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustsabn.files import make_folder, write_text
from robustsabn.report.links import address
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, Spread, spreads
from robustsabn.trainers.runs.comparison import DIFFERENT_WAYS, Comparison, Group
from robustsabn.trainers.runs.config_diff import value_text, words
from robustsabn.trainers.runs.measured import Column
from robustsabn.trainers.runs.pages.comparison import (
    comparison_title,
    every_run,
    made_with,
    mean_cells,
    remarks_on,
    unbroken,
    write_comparison_page,
)

__all__ = ["write_sweep"]

TRAINING_ONLY = ("attack.steps", "attack.bn_mode", "attack.fold")
"""Keys of the attack that do not change how a run is evaluated."""


def write_sweep(comparison: Comparison, folder: Path, title: str | None = None) -> Path:
    """Write report/index.html and report/comparison.html in the folder of a sweep; returns the first.

    The numbers are beside them, as comparison.csv and comparison.json.
    """
    target = folder / "report" / "index.html"
    make_folder(target.parent)
    keys = _swept(comparison)
    comparison = _in_order(comparison, keys)
    _, *files = write_comparison_page(comparison, target.with_name("comparison.html"))
    axis = _axis(comparison, keys)
    page = render(
        "sweep.html",
        title=title or f"Sweep {folder.resolve().name}",
        measured=comparison_title(comparison),
        remarks=_remarks(comparison, keys),
        means=_means(comparison, keys),
        over=axis,
        charts=_charts(comparison, axis),
        every_run=every_run(comparison, target),
        made=made_with(comparison, target),
        files=[(file.name, address(Path(file.name))) for file in files],
    )
    write_text(target, page)
    return target


def _swept(comparison: Comparison) -> list[str]:
    """The keys in which the groups differ, in order."""
    return list(dict.fromkeys(key for group in comparison.groups for key in group.differing))


def _in_order(comparison: Comparison, keys: Sequence[str]) -> Comparison:
    """The groups in the order of the values of the first key, then of the next."""
    orders = {key: _values(comparison, key) for key in keys}

    def place(group: Group) -> list[int]:
        return [orders[key].index(group.differing[key]) if key in group.differing else -1 for key in keys]

    return replace(comparison, groups=tuple(sorted(comparison.groups, key=place)))


def _remarks(comparison: Comparison, keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """The remarks of the comparison; that of different attacks is expected where the attack is swept."""
    swept = [key for key in keys if key.startswith(("attack.", "test.")) and key not in TRAINING_ONLY]
    remarks = remarks_on(comparison)
    if not swept:
        return remarks
    others = [remark for remark in remarks if DIFFERENT_WAYS not in remark[2].lower()]
    text = f"{' and '.join(swept)} also changes the evaluation: these accuracies are not under one attack."
    return [("note", "Different attacks.", text), *others]


def _means(comparison: Comparison, keys: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table of means with a column for each swept key in place of the group's name."""
    head, rows = mean_cells(comparison)
    if not keys:
        return head, unbroken(rows)
    known = {group.name: group.differing for group in comparison.groups}
    cells = []
    for name, *rest in rows:
        group, _, average = (name, "", "") if name in known else name.rpartition(", ")
        chosen = [value_text(key, known[group][key]) if key in known[group] else "" for key in keys]
        cells.append([*chosen[:-1], f"{chosen[-1]}, {average}" if average else chosen[-1], *rest])
    return [*keys, *head[1:]], unbroken(cells)


def _axis(comparison: Comparison, keys: Sequence[str]) -> str:
    """The swept key on the x axis, a number if there is one, with the most values; or the seed."""

    def rank(key: str) -> tuple[bool, int]:
        values = _values(comparison, key)
        return _numeric(values) and len(values) > 1, len(values)

    return max(keys, key=rank) if keys else "seed"


def _values(comparison: Comparison, key: str) -> list[Any]:
    """The different values of a key; numbers in order of size, others in that of the runs."""
    values: list[Any] = []
    for group in comparison.groups:
        if key in group.differing and group.differing[key] not in values:
            values.append(group.differing[key])
    return sorted(values) if _numeric(values) else values


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _charts(comparison: Comparison, axis: str) -> list[tuple[Plot, str]]:
    """For each number its means over the axis, a line for each setting of the other keys."""
    drawn = {name: column for name, column in comparison.columns.items() if column.unit != "s"}
    charts = (_over_seeds(comparison, name, column) for name, column in drawn.items())
    if axis != "seed":
        charts = (_over_key(comparison, axis, name, column) for name, column in drawn.items())
    return [(plot, caption) for plot, caption in charts if plot is not None]


def _over_key(comparison: Comparison, axis: str, name: str, column: Column) -> tuple[Plot | None, str]:
    values = _values(comparison, axis)
    series: dict[str, list[Spread]] = {}
    for group in comparison.groups:
        spread = group.spread(name)
        if axis in group.differing and spread is not None:
            others = {key: value for key, value in group.differing.items() if key != axis}
            place, error = float(values.index(group.differing[axis])), spread.deviation or 0.0
            point = place, column.scaled(spread.mean), column.scaled(error)
            series.setdefault(words(others) or column.heading, []).append(point)
    ticks = {float(i): value_text(axis, value) for i, value in enumerate(values)}
    joined = _numeric(values)
    plot = spreads(
        {label: sorted(points) for label, points in series.items()},
        f"{column.heading} over {axis}",
        axis,
        column.axis,
        ticks=ticks,
        joined=joined,
    )
    bars = (
        " with the standard deviation over seeds" if any(len(g.runs) > 1 for g in comparison.groups) else ""
    )
    return plot, f"{column.heading[0].upper()}{column.heading[1:]}: mean{bars}."


def _over_seeds(comparison: Comparison, name: str, column: Column) -> tuple[Plot | None, str]:
    runs = sorted(comparison.runs, key=lambda run: run.seed)
    found = [
        (float(i), column.scaled(run.all_numbers[name]), 0.0)
        for i, run in enumerate(runs)
        if name in run.all_numbers
    ]
    ticks = {float(i): str(run.seed) for i, run in enumerate(runs)}
    plot = spreads(
        {column.heading: found},
        f"{column.heading} over seeds",
        "seed",
        column.axis,
        ticks=ticks,
        joined=False,
    )
    return plot, f"{column.heading[0].upper()}{column.heading[1:]} of each seed."
