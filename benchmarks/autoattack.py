"""Our AutoAttack and the official code on the same images: verdicts, passes, seconds.

    python benchmarks/autoattack.py --model net.py:make --data npz:test.npz --eps 8/255 --n 500 --json a.json
    python benchmarks/autoattack.py --table a.json b.json --out benchmarks/results/autoattack.md

The engines alternate on parts of the images, so that both meet the same load of the machine; the ratio is
that of the total seconds. `--keep FILE` stores the results of the official code and uses them in the next
call, without a ratio. Needs pyautoattack."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from timing import machine, write_table

from robustsabn.attacks import AttackCost, AutoAttack, Report, ThreatModel
from robustsabn.attacks.adapters import official
from robustsabn.data import load_test
from robustsabn.models import resolve
from robustsabn.routing import maybe_route


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", nargs="+", type=Path, help="make tables from the results of earlier runs")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--route", default="adv")
    parser.add_argument("--data")
    parser.add_argument("--norm", default="Linf")
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument(
        "--batch-size",
        default=("auto"),
        help="batch size of our engine; the official code uses 250, its default",
    )
    parser.add_argument("--name")
    parser.add_argument("--no-official", action="store_true")
    parser.add_argument("--only-official", action="store_true", help="only fill the file of --keep")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.table:
        tables([json.loads(path.read_text()) for path in args.table], args.out)
        return
    found = compare(args)
    text = json.dumps(found, indent=2)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run both engines, and the fast version, part by part."""
    above, _, below = args.eps.partition("/")
    threat = ThreatModel(args.norm, float(above) / float(below or 1))
    images = load_test(args.data, args.n)
    x, y = images.batch(torch.arange(len(images)), "cpu")
    model = resolve(args.model, weights=args.weights).eval()
    size = args.batch_size if args.batch_size == "auto" else int(args.batch_size)
    kept = stored(args.keep) if args.keep and args.keep.exists() else []
    reports: dict[str, list[Report]] = {"ours": [], "fast": [], "official": list(kept)}
    with maybe_route(model, args.route):
        for turn, part in enumerate(torch.arange(len(x)).chunk(args.parts)):
            engines = ["ours", "official"] if turn % 2 == 0 else ["official", "ours"]
            for engine in [*engines, "fast"]:
                if engine == "official":
                    if not args.no_official and not kept:
                        reports[engine].append(official(model, x[part], y[part], threat, ids=part))
                    continue
                if args.only_official:
                    continue
                version = "fast" if engine == "fast" else "standard"
                attack = AutoAttack(threat, version=version, batch_size=size)
                reports[engine].append(attack(model, x[part], y[part], ids=part))
                print(engine, turn, f"{reports[engine][-1].seconds:.0f} s", flush=True)
    if args.keep and not kept:
        store(reports["official"], args.keep)
    if args.only_official:
        return {}
    summary = {engine: summed(parts) for engine, parts in reports.items() if parts}
    return {
        "name": args.name or args.model,
        "norm": args.norm,
        "eps": args.eps,
        "n": len(x),
        "machine": machine(),
        "alternating": not kept,
        "engines": summary,
        "differing": differing(reports) if reports["official"] else [],
        "flags": sorted({flag.name for report in reports["ours"] for flag in report.flags}),
    }


def store(reports: list[Report], path: Path) -> None:
    """Keep reports as tensors and plain values."""
    plain = [
        {**vars(report), "attacks": [vars(cost) for cost in report.attacks], "flags": []}
        for report in reports
    ]
    torch.save(plain, path)


def stored(path: Path) -> list[Report]:
    """The reports of an earlier `store`."""
    found = torch.load(path, weights_only=True)
    return [
        Report(**{**values, "attacks": tuple(AttackCost(**cost) for cost in values["attacks"]), "flags": ()})
        for values in found
    ]


def summed(parts: list[Report]) -> dict[str, Any]:
    """Accuracies, passes per surviving point, seconds per attack."""
    n, robust = sum(part.n for part in parts), sum(int(part.robust.sum()) for part in parts)
    names = list(dict.fromkeys(cost.name for part in parts for cost in part.attacks))
    costs = {name: [cost for part in parts for cost in part.attacks if cost.name == name] for name in names}
    return {
        "clean": sum(int(part.clean.sum()) for part in parts) / n,
        "robust": robust / n,
        "survivors": robust,
        "forwards": sum(part.forwards for part in parts),
        "backwards": sum(part.backwards for part in parts),
        "seconds": sum(part.seconds for part in parts),
        "attacks": {name: sum(cost.seconds for cost in group) for name, group in costs.items()},
        "broken": {name: sum(cost.broken for cost in group) for name, group in costs.items()},
    }


def differing(reports: dict[str, list[Report]]) -> list[dict[str, Any]]:
    """Images on which the two codes disagree, with the margin on the adversarial image of one of them."""
    found = []
    for ours, theirs in zip(reports["ours"], reports["official"], strict=True):
        for row in (ours.robust != theirs.robust).nonzero()[:, 0].tolist():
            who, report = ("official", theirs) if ours.robust[row] else ("ours", ours)
            found.append(
                {
                    "id": int(report.ids[row]),
                    "broken by": who,
                    "attack": report.attacks[int(report.broken_by[row])].name,
                    "margin": float(report.margin[row]),
                    "distance": float(report.distance[row]),
                }
            )
    return found


def tables(cases: list[dict[str, Any]], out: Path | None) -> None:
    """Tables with one line per case: verdicts, cost, and the images that differ."""
    verdicts, costs, points = [], [], []
    for case in cases:
        ours, fast = case["engines"]["ours"], case["engines"]["fast"]
        theirs = case["engines"].get("official")
        label = (case["name"], case["norm"], case["eps"], case["n"])
        same = f"{1 - len(case['differing']) / case['n']:.2%}" if theirs else ""
        robust = f"{theirs['robust']:.2%}" if theirs else ""
        verdicts.append(
            (*label, f"{ours['clean']:.2%}", robust, f"{ours['robust']:.2%}", same, f"{fast['robust']:.2%}")
        )
        passes = (fast["forwards"] + fast["backwards"]) / (ours["forwards"] + ours["backwards"])
        each = max(ours["survivors"], 1)
        timed = bool(theirs) and case["alternating"]
        times = f"{theirs['seconds']:.0f}" if timed else ""
        mine = f"{ours['seconds']:.0f}" if timed else ""
        ratio = f"{theirs['seconds'] / ours['seconds']:.2f}" if timed else ""
        per = f"{ours['forwards'] / each:.0f} + {ours['backwards'] / each:.0f}"
        costs.append((*label, times, mine, ratio, per, f"{passes:.3f}"))
        points += [(*label[:3], *point.values()) for point in case["differing"]]
    head = ("network", "norm", "eps", "points")
    write_table(
        "AutoAttack standard, here and by the official code",
        (*head, "clean", "official", "ours", "equal verdicts", "fast"),
        verdicts,
        out,
    )
    more = [
        section(
            "Cost", (*head, "official s", "ours s", "ratio", "f + b per survivor", "passes of fast"), costs
        ),
        section("Points that differ", (*head[:3], "id", "broken by", "attack", "margin", "distance"), points),
    ]
    print("\n".join(more))
    if out:
        out.write_text(out.read_text() + "\n" + "\n".join(more))


def section(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table under a heading."""
    lines = [f"## {title}", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
