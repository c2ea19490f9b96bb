"""Courses of searches over epochs, means and single seeds, as a plot; and their last numbers as a table.

python benchmarks/nas_curves.py RUNS [RUNS ...] --out nas.png      folders of runs, or of sweeps"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import matplotlib

from robustsabn.report.plots import COLOURS
from robustsabn.trainers import compare
from robustsabn.trainers.runs.measured import Column

matplotlib.use("Agg")

SHOWN = ("table_accuracy", "kendall_tau", "accuracy", "skips")
TABLE = (
    *("table_accuracy", "scratch_accuracy", "rank", "regret", "kendall_tau", "spearman_rho"),
    *("path_accuracy", "accuracy", "skips"),
)


def main() -> None:
    """Read the runs, print the table and draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    groups = {Path(run).name: compare([run]) for run in args.runs}
    columns: dict[str, Column] = {}
    for found in groups.values():
        columns |= found.columns
    columns = {name: columns[name] for name in TABLE if name in columns}
    print("| runs | " + " | ".join(column.head for column in columns.values()) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name, found in groups.items():
        values = [[run.numbers.get(number) for run in found.runs] for number in columns]
        cells = [
            _cell(column, [v for v in own if v is not None])
            for column, own in zip(columns.values(), values, strict=True)
        ]
        print(f"| `{name}` | " + " | ".join(cells) + " |")
    if args.out is not None:
        draw({name: found.runs for name, found in groups.items()}, columns, args.out)


def _cell(column: Column, values: Sequence[float]) -> str:
    """Mean and sample deviation, and the single values in the order of the seeds."""
    if not values:
        return ""
    scaled = [column.scaled(value) for value in values]
    text = [f"{value:,.0f}" if float(value).is_integer() else f"{value:.2f}" for value in scaled]
    if len(scaled) == 1:
        return text[0]
    mean, spread = fmean(scaled), stdev(scaled)
    short = (f"{mean:,.0f}", f"{spread:,.0f}") if mean > 1000 else (f"{mean:.2f}", f"{spread:.2f}")
    return f"{short[0]} ± {short[1]} ({', '.join(text)})"


def draw(groups: dict[str, Sequence[object]], columns: dict[str, Column], out: Path) -> None:
    """A panel for each number: a thick line for the mean of each group, thin ones for its runs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    known = [
        name
        for name in SHOWN
        if any(name in run.courses for runs in groups.values() for run in runs)  # type: ignore[attr-defined]
    ]
    figure = Figure(figsize=(3.4 * len(known), 3.4), layout="constrained")
    panels = figure.subplots(1, len(known), squeeze=False)[0]
    for panel, name in zip(panels, known, strict=True):
        column = columns[name]
        for colour, (group, runs) in zip(COLOURS, groups.items(), strict=False):
            at = defaultdict(list)
            for run in runs:
                points = [(x, column.scaled(y)) for x, y in run.courses.get(name, ())]  # type: ignore[attr-defined]
                panel.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.45)
                for x, y in points:
                    at[x].append(y)
            means = sorted((x, fmean(ys)) for x, ys in at.items())
            panel.plot(*zip(*means, strict=True), color=colour, linewidth=2, marker=".", label=group)
        panel.set_title(column.axis, fontsize=10)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.grid(alpha=0.2)
    panels[0].legend(fontsize=8)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
