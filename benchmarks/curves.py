"""Numbers of runs over their steps: a row of charts for each data set, a colour for each norm.

python benchmarks/curves.py RUN [RUN ...] --show KIND/NAME [KIND/NAME ...] --out FILE.png

KIND is that of records in metrics.jsonl, such as train or validation. Thin lines are runs, thick ones means
over the runs of a norm."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from robustsabn.report.plots import COLOURS
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Point, Record, read_records

matplotlib.use("Agg")

Runs = dict[str, dict[str, list[list[Record]]]]
"""Records of each run by data set and norm."""


def collected(places: Sequence[Path]) -> Runs:
    """The records of the runs; the name of a data set begins with the task."""
    found: Runs = {}
    for place in places:
        folder = RunFolder(place)
        config = folder.written_config()
        data = Path(str(config["data"]).rpartition(":")[2]).stem
        norms = found.setdefault(f"{config['task']}, {data}", {})
        norms.setdefault(config["norm"], []).append(list(read_records(folder.metrics)))
    return found


def course(records: Sequence[Record], shown: str, smooth: int = 1) -> list[Point]:
    """The number KIND/NAME over steps, as means of `smooth` records of training."""
    kind, _, name = shown.partition("/")
    kept = [record for record in records if record["kind"] == kind and name in record]
    size = smooth if kind == "train" else 1
    groups = [kept[k : k + size] for k in range(0, len(kept), size)]
    return [(group[-1]["step"], statistics.fmean(one[name] for one in group)) for group in groups]


def draw(runs: Runs, shown: Mapping[str, str], out: Path, *, log: bool = False, smooth: int = 1) -> None:
    """A row of charts for each data set, a chart for each of the numbers `shown`, with their titles."""
    import matplotlib.pyplot as plt

    size = (4 * len(shown), 2.6 * len(runs))
    figure, rows = plt.subplots(len(runs), len(shown), figsize=size, layout="constrained", squeeze=False)
    for row, (data, norms) in zip(rows, runs.items(), strict=True):
        for axes, (name, title) in zip(row, shown.items(), strict=True):
            for colour, (norm, each) in zip(COLOURS, norms.items(), strict=False):
                courses = [points for records in each if (points := course(records, name, smooth))]
                for points in courses:
                    axes.plot(
                        *zip(*points, strict=True),
                        color=colour,
                        linewidth=0.7,
                        marker=".",
                        markersize=2,
                        alpha=0.5,
                    )
                common = sorted(set.intersection(*({step for step, _ in points} for points in courses)))
                means = [statistics.fmean(dict(points)[step] for points in courses) for step in common]
                axes.plot(
                    common,
                    means,
                    color=colour,
                    linewidth=2,
                    marker="." if len(common) == 1 else "",
                    label=norm,
                )
            axes.set_title(f"{data}: {title}", fontsize=8)
            axes.set_yscale("log" if log else "linear")
            axes.tick_params(which="both", labelsize=8)
            axes.grid(alpha=0.3, which="both")
        row[0].legend(fontsize=8)
    for axes in rows[-1]:
        axes.set_xlabel("step", fontsize=8)
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--show", nargs="+", required=True, metavar="KIND/NAME")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", action="store_true", help="logarithmic axes")
    parser.add_argument("--smooth", type=int, default=1, help="records of training that are averaged")
    args = parser.parse_args()
    titles = {name: name.replace("/", ", ").replace("_", " ") for name in args.show}
    draw(collected(args.runs), titles, args.out, log=args.log, smooth=args.smooth)


if __name__ == "__main__":
    main()
