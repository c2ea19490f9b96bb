"""`robustsabn evaluate RUN`: clean and robust accuracy of a trained run, route by route."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from robustsabn.errors import UsageError
from robustsabn.text import quote

if TYPE_CHECKING:
    from robustsabn.attacks.report import Report
    from robustsabn.attacks.reporting.progress import Display
    from robustsabn.trainers import Evaluation

__all__ = ["HELP", "configure", "run"]

HELP = "clean and robust accuracy of a run, route by route"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, such as runs/digits")
    parser.add_argument("--route", default="all", help="clean, adv, or all (the default)")
    parser.add_argument(
        "--attack",
        default="pgd-20",
        help=(
            "pgd-STEPS[-RESTARTS] such as pgd-50-10, autoattack[:VERSION], official[:VERSION], "
            "advertorch:CLASS, foolbox:CLASS, torchattacks:CLASS; pgd-20 by default"
        ),
    )
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="options of another library's attack, such as steps=40",
    )
    parser.add_argument(
        "--step-size", help="step size of the attack, such as 2/255; by default that of the training"
    )
    parser.add_argument("--checkpoint", default="best", choices=("best", "last", "ema", "swa"))
    parser.add_argument(
        "--data", metavar="SPEC", help="other data than that of the run, such as npz:mine.npz"
    )
    parser.add_argument("--n", type=int, help="number of test images; all by default")
    parser.add_argument("--batch-size", type=int, help="images at a time; 500 by default for PGD")
    parser.add_argument("--seed", type=int, default=0, help="seed of the attack's random starts")
    parser.add_argument(
        "--curves",
        action="store_true",
        help=(
            "also measure accuracy against eps and against the steps of PGD, and by class, for the page of "
            "`report`: about 12 times the work of pgd-20"
        ),
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one")


def run(args: argparse.Namespace) -> None:
    """Print the table and write RUN/report/evaluation.json."""
    from robustsabn.cli.support.arguments import at_least_one
    from robustsabn.locks import locked
    from robustsabn.trainers import load_run_config

    data = args.data or load_run_config(args.run_folder).data
    at_least_one("--n", args.n)
    at_least_one("--batch-size", args.batch_size)
    with locked(args.run_folder / "report"):  # first, so that a folder that is not writable is found at once
        _evaluate(args, data)


def _evaluate(args: argparse.Namespace, data: str) -> None:
    from robustsabn.cli.support.arguments import above_zero, device
    from robustsabn.files import write_text
    from robustsabn.report.console import output
    from robustsabn.report.following import following
    from robustsabn.trainers import evaluate_run
    from robustsabn.trainers.adversarial.evaluation.tables import results_table
    from robustsabn.trainers.checkpoints.files import read_facts
    from robustsabn.trainers.runs.folder import RunFolder

    # read first: a run that is still training may save another checkpoint meanwhile
    step = read_facts(RunFolder(args.run_folder).checkpoints, args.checkpoint)["step"]
    if args.attack.startswith("pgd"):
        if args.overrides:
            raise UsageError(
                f"{quote(args.overrides[0])}: {args.attack} takes no options; use --step-size 2/255"
            )
        measured = evaluate_run(
            args.run_folder,
            checkpoint=args.checkpoint,
            route=args.route,
            attack=args.attack,
            step_size=above_zero("--step-size", args.step_size),
            n=args.n,
            device=device(args.device),
            batch_size=args.batch_size or 500,
            data=data,
            seed=args.seed,
        )
        _warn(measured)
    else:
        measured = _reported(args, data)
    output().print(results_table(measured, f"{args.checkpoint} checkpoint, {measured.setting}"))
    if measured.warning:
        print(f"warning: {measured.warning}")
    report: Path = args.run_folder / "report" / "evaluation.json"
    content = {
        **measured.to_dict(),
        "checkpoint": args.checkpoint,
        "step": step,
        "data": data,
        "seed": args.seed,
    }
    write_text(report, json.dumps(content, indent=2) + "\n")
    if args.curves:
        _curves(args, data)
    print(f"written to {report}")
    print(following("report", args.run_folder))


def _curves(args: argparse.Namespace, data: str) -> None:
    """Print the curves of each route, and write them to RUN/report/curves.json."""
    from robustsabn.cli.support.arguments import device
    from robustsabn.report.console import output, progress_bar
    from robustsabn.trainers.adversarial.evaluation.curves import curves_of_run

    console = output()
    with progress_bar(console) as bar:
        task = bar.add_task("curves", note="gradients of images")

        def progress(gradients: int, work: int) -> None:
            bar.update(task, advance=gradients, total=work)

        curves = curves_of_run(
            args.run_folder,
            checkpoint=args.checkpoint,
            route=args.route,
            n=args.n,
            device=device(args.device),
            batch_size=args.batch_size or 500,
            data=data,
            seed=args.seed,
            progress=progress,
        )
    for route, own in curves.routes.items():
        console.print("" if route == "all" else f"attacked through {route}", markup=False)
        console.print(own.table())
        console.print(own.class_table(curves.classes))
    for finding in curves.findings():
        console.print(f"warning: masked gradients: {finding}", markup=False)
    print(f"written to {args.run_folder / 'report' / 'curves.json'}")


def _warn(evaluation: "Evaluation") -> None:
    for note in evaluation.notes:
        print(f"warning: {note}")


def _reported(args: argparse.Namespace, data: str) -> "Evaluation":
    from robustsabn.attacks.reporting import live
    from robustsabn.cli.support import arguments, evaluation
    from robustsabn.trainers.adversarial.evaluation.reported import attack_run

    if args.step_size is not None:
        raise UsageError(f"--step-size is for PGD, not for {args.attack}; leave it out")
    with evaluation.stoppable(), live() as show:
        result, _ = attack_run(
            args.run_folder,
            args.attack,
            checkpoint=args.checkpoint,
            route=args.route,
            options=evaluation.options(args.overrides),
            n=args.n,
            device=arguments.device(args.device),
            batch_size=args.batch_size,
            data=data,
            seed=args.seed,
            about={"command": evaluation.command(args.argv)},
            progress=show,
            tell=partial(_tell, show),
        )
    return result


def _tell(show: "Display", route: str, report: "Report") -> None:
    from robustsabn.attacks.reporting import tell

    show.close()  # prints the line about the last attack
    print(f"\nattacked through {route}" if route != "all" else "")
    tell(report)
