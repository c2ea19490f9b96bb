"""Clean and PGD accuracy of a trained network for Blends of its first and last route: a table and a plot.

python benchmarks/dial.py RUN [RUN ...] [--checkpoint last] [--eps 0.15] [--steps 20] [--points 11] [--out
FILE.md]"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch
from timing import write_table
from torch import Tensor, nn

from robustsabn import route, routes_of
from robustsabn.attacks import PGD, ThreatModel
from robustsabn.data import load_test
from robustsabn.routing import Blend
from robustsabn.trainers import load_run_config, load_run_model
from robustsabn.trainers.adversarial.evaluation.evaluation import starting_noise

matplotlib.use("Agg")


def accuracies(
    model: nn.Module, x: Tensor, y: Tensor, delta0: Tensor, attack: PGD, share: float
) -> tuple[float, float]:
    """Clean and robust accuracy in percent with `share` of the last route, which is also attacked."""
    weights = torch.zeros(len(routes_of(model)))
    weights[0], weights[-1] = 1 - share, share
    found = []
    with route(model, Blend(weights)):
        for images in (x, attack(model, x, y, delta0=delta0)):
            with torch.no_grad():
                found.append(100 * (model(images).argmax(1) == y).float().mean().item())
    return found[0], found[1]


def main() -> None:
    """Measure every run and write table and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--checkpoint", default="last")
    parser.add_argument("--eps", type=float, help="radius; by default that of each run")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--points", type=int, default=11)
    parser.add_argument("--images", type=int, help="number of test images, at most")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    shares = [i / (args.points - 1) for i in range(args.points)]
    measured: dict[str, list[tuple[float, float]]] = {}
    for run in args.runs:
        config, model = load_run_config(run), load_run_model(run, args.checkpoint)
        images = load_test(config.data)
        images = images.sample(min(args.images or len(images), len(images)))
        x, y = images.batch(torch.arange(len(images)), "cpu")
        threat = ThreatModel(config.attack.norm, args.eps or config.attack.eps)
        attack = PGD(threat, steps=args.steps, bn_mode="eval", keep="last")
        delta0 = starting_noise(attack, x, images.ids, 0)
        name = f"{run.name} ({type(config.method).__name__.lower()}, eps {threat.eps_max:.3g})"
        measured[name] = [accuracies(model, x, y, delta0, attack, share) for share in shares]
    rows = [
        [name, kind, *(f"{pair[i]:.1f}" for pair in values)]
        for name, values in measured.items()
        for i, kind in enumerate(("clean", f"PGD-{args.steps}"))
    ]
    write_table(
        "The dial: Blend from the clean to the adversarial route",
        ["run", "accuracy %", *(f"{s:.2g}" for s in shares)],
        rows,
        args.out,
    )
    if args.out is not None:
        plot(measured, shares, args.out.with_suffix(".png"))


def plot(measured: dict[str, list[tuple[float, float]]], shares: list[float], file: Path) -> None:
    """Both accuracies over the share of the adversarial route, a colour for each run."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4.6), layout="constrained")
    for name, values in measured.items():
        (line,) = axes.plot(shares, [clean for clean, _ in values], marker="o", label=name)
        axes.plot(
            shares, [robust for _, robust in values], marker="s", linestyle="--", color=line.get_color()
        )
    axes.set(xlabel="share of the adversarial route", ylabel="accuracy %  (solid clean, dashed PGD)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper left")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
