"""Seconds of our AutoAttack and of the official code, for images that withstand every attack.

    python benchmarks/autoattack_time.py --out benchmarks/results/autoattack_time.md

Networks have random weights and eps is tiny, so that no image is broken and every pass of the protocol is
made. Each attack runs a tenth of its iterations, the same in both codes, which alternate. Needs pyautoattack.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from timing import write_table
from torch import Tensor, nn

from robustsabn.attacks import APGD, APGDT, FABT, AutoAttack, Square, ThreatModel
from robustsabn.models import build

# name, points
NETWORKS = {"cnn": 128, "resnet-small": 128, "resnet18": 16}
EPS = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=float, default=0.1, help="share of the iterations of each attack")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--points", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    for name in args.networks:
        torch.manual_seed(0)
        model = (cnn() if name == "cnn" else build(name, 10)).to(args.device)
        settle(model, args.device)
        x = torch.rand(args.points or NETWORKS[name], 3, 32, 32, device=args.device)
        with torch.no_grad():
            y = model(x).argmax(1)
        rows += measured(name, model, x, y, args)
    write_table(
        f"AutoAttack standard at {args.part:g} of its iterations, Linf, no point broken",
        ("network", "points", "attack", "official s", "ours s", "ratio"),
        rows,
        args.out,
    )


def cnn() -> nn.Module:
    """Three convolutions of 32, 64 and 128 channels, each with batch norm and ReLU, then mean and linear."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 1), (32, 64, 2), (64, 128, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def settle(model: nn.Module, device: str) -> None:
    """Give the network running statistics and weights as after training."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(64, 3, 32, 32, device=device))
    model.eval()


def measured(
    name: str, model: nn.Module, x: Tensor, y: Tensor, args: argparse.Namespace
) -> list[tuple[Any, ...]]:
    """One row per attack and one for the sum: medians over the rounds."""
    steps, queries = round(100 * args.part), round(5000 * args.part)
    seconds: dict[str, dict[str, list[float]]] = {"ours": {}, "official": {}}
    for turn in range(args.rounds):
        for engine in ("ours", "official") if turn % 2 else ("official", "ours"):
            run = ours if engine == "ours" else official
            for attack, spent in run(model, x, y, steps, queries).items():
                seconds[engine].setdefault(attack, []).append(spent)
            print(name, engine, {k: round(v[-1], 1) for k, v in seconds[engine].items()}, flush=True)
    rows = []
    for attack in seconds["ours"]:
        a, b = (statistics.median(seconds[engine][attack]) for engine in ("official", "ours"))
        rows.append((name, len(x), attack, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"))
    return rows


def ours(model: nn.Module, x: Tensor, y: Tensor, steps: int, queries: int) -> dict[str, float]:
    threat = ThreatModel("Linf", EPS)
    attacks = [
        APGD(threat, steps=steps),
        APGDT(threat, steps=steps),
        FABT(threat, steps=steps),
        Square(threat, steps=queries),
    ]
    report = AutoAttack(threat, version="custom", attacks=attacks)(model, x, y)
    assert report.robust.all()
    return {**{cost.name: cost.seconds for cost in report.attacks}, "all": report.seconds}


def official(model: nn.Module, x: Tensor, y: Tensor, steps: int, queries: int) -> dict[str, float]:
    from pyautoattack import AutoAttack as Official

    for parameter in model.parameters():
        parameter.grad = None
    engine = Official(model, norm="Linf", eps=EPS, seed=0, version="standard", device=x.device)
    for attack in (engine.apgd, engine.apgd_targeted, engine.fab):
        attack.n_iter = steps
    engine.square.n_queries = queries
    names, found = list(engine.attacks_to_run), {}
    for name in names:
        engine.attacks_to_run = [name]
        began = time.perf_counter()
        engine.run_standard_evaluation(x, y, batch_size=250)
        found[name] = time.perf_counter() - began
    return {**found, "all": sum(found.values())}


if __name__ == "__main__":
    main()
