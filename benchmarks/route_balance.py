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

from robustsabn.analysis import route_affines
from robustsabn.trainers.gan.sampling import load_generator
from robustsabn.trainers.runs.folder import RunFolder
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
    """The numbers at the last validation, mean ± deviation over the runs."""
    lines = [f"| norm | runs | {' | '.join(COLUMNS)} |", f"| --- | --- {'| --- ' * len(COLUMNS)}|"]
    for norm, runs in norms.items():
        cells = []
        for name in COLUMNS:
            courses = [course(records, f"analysis/{name}") for records in runs]
            cells.append(spread([points[-1][1] for points in courses if points]))
        lines.append(f"| `{norm}` | {len(runs)} | {' | '.join(cells)} |")
    return lines


def depth_table(places: Sequence[Path]) -> list[str]:
    """CAPV of effective scales and shifts by layer, from the last weights of generators."""
    found: dict[str, dict[str, list[float]]] = {}
    for place in places:
        loaded = load_generator(place, "last")
        for layer in route_affines(loaded.generator).layers:
            for part, value in (("scale", layer.capv_scale), ("shift", layer.capv_shift)):
                column = found.setdefault(f"{part}, `{loaded.config.norm}`", {})
                column.setdefault(layer.layer, []).append(1000 * value)
    first = next(iter(found.values()))
    lines = [f"| layer | {' | '.join(found)} |", f"| --- {'| --- ' * len(found)}|"]
    return lines + [
        f"| {layer} | {' | '.join(spread(column[layer]) for column in found.values())} |" for layer in first
    ]


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
    generators = [run for run in args.runs if RunFolder(run).written_config()["task"] == "gan"]
    if generators:
        print("\nGAN, 1000 CAPV by layer, from the input to the image\n", *depth_table(generators), sep="\n")
    draw(runs, SHOWN, args.out)


if __name__ == "__main__":
    main()
