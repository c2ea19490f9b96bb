"""Balance and diversity of the routes' gradients and the variance of their affines, by norm and seed.

python benchmarks/route_balance.py RUN [RUN ...] --out FILE.png

The runs were trained with `analysis=N`; those of one data set are compared by norm, over seeds. Prints a
table for each data set, and draws a row of charts for each: thin lines are runs, thick ones their means."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from curves import collected, course, draw

from robustsabn.trainers.runs.metrics import Record

SHOWN = {
    "analysis/balance/weight": "balance (std / mean of gradient norms)",
    "analysis/cosine/weight": "cosine of gradients (1 - diversity)",
    "analysis/capv/scale": "CAPV of effective scales",
}
COLUMNS = (
    *("balance/weight", "cosine/weight", "capv/scale", "shared_share/scale"),
    *("balance/scale", "balance/shift", "cosine/scale", "cosine/shift"),
)


def spread(values: Sequence[float]) -> str:
    """Mean and deviation over the seeds."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{deviation}"


def table(norms: Mapping[str, Sequence[Sequence[Record]]]) -> list[str]:
    """Means over the validations of each run, then mean ± deviation over the runs."""
    lines = [f"| norm | runs | {' | '.join(COLUMNS)} |", f"| --- | --- {'| --- ' * len(COLUMNS)}|"]
    for norm, runs in norms.items():
        cells = []
        for name in COLUMNS:
            courses = [course(records, f"analysis/{name}") for records in runs]
            cells.append(spread([statistics.fmean(value for _, value in each) for each in courses if each]))
        lines.append(f"| `{norm}` | {len(runs)} | {' | '.join(cells)} |")
    return lines


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
    draw(runs, SHOWN, args.out)


if __name__ == "__main__":
    main()
