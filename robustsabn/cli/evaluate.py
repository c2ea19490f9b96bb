"""`robustsabn evaluate RUN`: clean and robust accuracy of a trained run, route by route."""

import argparse
import json
from pathlib import Path

__all__ = ["HELP", "configure", "run"]

HELP = "clean and PGD accuracy of a run, route by route"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, such as runs/digits")
    parser.add_argument("--route", default="all", help="clean, adv, or all (the default)")
    parser.add_argument(
        "--attack", default="pgd-20", help="pgd-STEPS[-RESTARTS], such as pgd-50-10; pgd-20 by default"
    )
    parser.add_argument(
        "--step-size", help="of the attack, such as 2/255; by default that of the run's training"
    )
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    parser.add_argument("--data", metavar="SPEC", help="other data than the run's, such as npz:mine.npz")
    parser.add_argument("--n", type=int, help="this many test images, all by default")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the attack's random starts")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one")


def run(args: argparse.Namespace) -> None:
    """Print the table and write RUN/report/evaluation.json."""
    from rich.console import Console

    from robustsabn._files import write_text
    from robustsabn.cli._common import above_zero, at_least_one, device
    from robustsabn.trainers import evaluate_run, load_run_config
    from robustsabn.trainers.monitor import results_table

    data = args.data or load_run_config(args.run_folder).data
    at_least_one("--n", args.n)
    at_least_one("--batch-size", args.batch_size)
    found = evaluate_run(
        args.run_folder,
        checkpoint=args.checkpoint,
        route=args.route,
        attack=args.attack,
        step_size=above_zero("--step-size", args.step_size),
        n=args.n,
        device=device(args.device),
        batch_size=args.batch_size,
        data=data,
        seed=args.seed,
    )
    Console().print(results_table(found, f"{args.checkpoint} checkpoint, {found.setting}"))
    if found.warning:
        print(f"warning: {found.warning}")
    report = args.run_folder / "report" / "evaluation.json"
    report.parent.mkdir(exist_ok=True)
    content = {**found.to_dict(), "checkpoint": args.checkpoint, "data": data, "seed": args.seed}
    write_text(report, json.dumps(content, indent=2) + "\n")
    print(f"written to {report}")
