"""Balance and diversity of the routes' gradients and the variance of their affines, by norm and seed.

python benchmarks/route_balance.py RUN [RUN ...] --out FILE.png

The runs were trained with `analysis=N`; those of one data set are compared by norm, over seeds. Prints a
table for each data set, and draws a row of charts for each: thin lines are runs, thick ones their means."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from robustsabn.report.plots import COLOURS
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Point, Record, read_records

matplotlib.use("Agg")

NUMBERS = {
    "balance/weight": "balance (std / mean of gradient norms)",
    "cosine/weight": "cosine of gradients (1 - diversity)",
    "capv/scale": "CAPV of effective scales",
}
COLUMNS = (*NUMBERS, "balance/scale", "balance/shift", "cosine/scale", "shared_share/scale")
Runs = dict[str, dict[str, list[list[Record]]]]
"""Analysis records of each run by data set and norm."""


def collected(places: Sequence[Path]) -> Runs:
    """The analyses of the runs; the name of a data set begins with the task."""
    found: Runs = {}
    for place in places:
        folder = RunFolder(place)
        config = folder.written_config()
        records = [record for record in read_records(folder.metrics) if record["kind"] == "analysis"]
        data = Path(str(config["data"]).rpartition(":")[2]).stem
        found.setdefault(f"{config['task']}, {data}", {}).setdefault(config["norm"], []).append(records)
    return found


def course(records: Sequence[Record], name: str) -> list[Point]:
    return [(record["step"], record[name]) for record in records if name in record]


def spread(values: Sequence[float]) -> str:
    """Mean and deviation over the seeds."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{deviation}"


def table(norms: dict[str, list[list[Record]]]) -> list[str]:
    """Means over the validations of each run, then mean ± deviation over the runs."""
    lines = [f"| norm | runs | {' | '.join(COLUMNS)} |", f"| --- | --- {'| --- ' * len(COLUMNS)}|"]
    for norm, runs in norms.items():
        cells = []
        for name in COLUMNS:
            points = [course(records, name) for records in runs]
            cells.append(spread([statistics.fmean(value for _, value in each) for each in points if each]))
        lines.append(f"| `{norm}` | {len(runs)} | {' | '.join(cells)} |")
    return lines


def draw(runs: Runs, out: Path) -> None:
    """A row of charts for each data set."""
    import matplotlib.pyplot as plt

    size = (4 * len(NUMBERS), 2.6 * len(runs))
    figure, rows = plt.subplots(len(runs), len(NUMBERS), figsize=size, layout="constrained", squeeze=False)
    for row, (data, norms) in zip(rows, runs.items(), strict=True):
        for axes, (name, title) in zip(row, NUMBERS.items(), strict=True):
            for colour, (norm, each) in zip(COLOURS, norms.items(), strict=False):
                courses = [points for records in each if (points := course(records, name))]
                for points in courses:
                    axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.5)
                shared = sorted(set.intersection(*({s for s, _ in points} for points in courses)))
                means = [statistics.fmean(dict(points)[step] for points in courses) for step in shared]
                axes.plot(shared, means, color=colour, linewidth=2, label=norm)
            axes.set_title(f"{data}: {title}", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    for axes in rows[-1]:
        axes.set_xlabel("step", fontsize=8)
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    runs = collected(args.runs)
    for data, norms in runs.items():
        print(f"\n{data}\n", *table(norms), sep="\n")
    draw(runs, args.out)


if __name__ == "__main__":
    main()
