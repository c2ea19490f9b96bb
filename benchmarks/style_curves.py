"""Content and style loss over training, of training crops and of held-out pairs, a line for each run.

python benchmarks/style_curves.py RUN [RUN ...] --out FILE.png [--smooth 10]

Runs of one norm have one colour. The content loss is against the target of plain AdaIN, which no norm can
move."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

from robustsabn.report.plots import COLOURS
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Point, read_records

matplotlib.use("Agg")

PANELS = {
    ("train", "content_loss_adain"): "training: content loss, AdaIN target",
    ("train", "style_loss"): "training: style loss",
    ("validation", "content_loss_adain"): "held out: content loss, AdaIN target",
    ("validation", "style_loss"): "held out: style loss",
}


def course(run: Path, kind: str, name: str, smooth: int) -> list[Point]:
    """A number of the records of one kind over steps; training is averaged over `smooth` records."""
    records = [r for r in read_records(RunFolder(run).metrics) if r["kind"] == kind and name in r]
    every = smooth if kind == "train" else 1
    groups = [records[k : k + every] for k in range(0, len(records), every)]
    return [(group[-1]["step"], sum(r[name] for r in group) / len(group)) for group in groups]


def main() -> None:
    """Draw the four panels."""
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smooth", type=int, default=5)
    args = parser.parse_args()
    norms = [RunFolder(run).written_config()["norm"] for run in args.runs]
    colours = {norm: COLOURS[k] for k, norm in enumerate(dict.fromkeys(norms))}
    figure, panels = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for axes, ((kind, name), title) in zip(panels.flat, PANELS.items(), strict=True):
        for run, norm in zip(args.runs, norms, strict=True):
            points = course(run, kind, name, args.smooth)
            first = norm not in axes.get_legend_handles_labels()[1]
            axes.plot(*zip(*points, strict=True), color=colours[norm], label=norm if first else None)
        axes.set(title=title, yscale="log")
        axes.grid(alpha=0.3, which="both")
    panels[0, 0].legend()
    for axes in panels[1]:
        axes.set_xlabel("step")
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
