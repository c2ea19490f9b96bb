"""`robustsabn autoattack`: robust accuracy of any classifier."""

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from robustsabn.text import spelled

if TYPE_CHECKING:
    from robustsabn.attacks import ThreatModel
    from robustsabn.attacks.report import Report
    from robustsabn.cli.support.subject import Subject

    Engine: TypeAlias = Callable[[Subject, Path, Callable[[Any], None] | None], Report]

__all__ = ["EPILOG", "HELP", "configure", "run"]

HELP = "robust accuracy of any classifier by AutoAttack, with a report"
EPILOG = "Several processes or GPUs: accelerate launch -m robustsabn autoattack …"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add(
        "--model",
        metavar="SPEC",
        required=True,
        help="a run folder, file.py:FUNCTION, package.module:FUNCTION, torchvision:NAME, timm:NAME",
    )
    add("--weights", metavar="F", help="a .safetensors or torch file of the model's weights")
    add("--num-classes", metavar="K", type=int, help="classes of the model; by default those of the data")
    add("--data", metavar="SPEC", required=True, help="digits, cifar10[:ROOT], npz:PATH, imagefolder:PATH, …")
    norms = ("Linf", "L2", "L1")
    add("--download", action="store_true", help="download a public data set that is missing")
    add("--norm", required=True, choices=norms, type=lambda text: spelled(text, norms) or text)
    add("--eps", required=True, help="radius, for images in [0, 1], such as 8/255")
    add("--version", metavar="VERSION", help="standard (the default), plus, rand, fast, custom")
    add("--attacks", metavar="A,B", help="attacks of version custom, such as apgd-ce,square")
    # torchrun reads --n as a short form of its own options
    add("--n", "--images", type=int, help="number of test images, drawn by a fixed seed; all by default")
    add("--route", metavar="R", help="route of a model with routes; the last one by default")
    add("--batch-size", default="auto", metavar="N", help="auto (the default) or a number")
    add("--seed", type=int, default=0)
    add("--out", metavar="DIR", type=Path, help="runs/autoattack-NAME by default")
    add("--title", help="title of the page report.html")
    add("--resume", action="store_true", help="continue an interrupted evaluation")
    add("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one")
    add(
        "--engine",
        default=("robustsabn"),
        choices=("robustsabn", "official"),
        help="which AutoAttack code to run",
    )
    add("--attack", metavar="LIB:CLASS", help="instead, an attack of advertorch:, foolbox: or torchattacks:")
    add("overrides", metavar="key=value", nargs="*", help="options of that attack, such as steps=40")
    add("--compile", action="store_true", help="compile the network for the search")
    add("--autocast", action="store_true", help="search in bfloat16; verdicts stay in float32")
    add("--robustbench", metavar="NAME", help="also write NAME.json and NAME.pt in the format of RobustBench")


def run(args: argparse.Namespace) -> None:
    """Attack, print the table, write the report."""
    size = _check(args)
    from robustsabn.attacks import ThreatModel
    from robustsabn.attacks.reporting import live
    from robustsabn.cli.support import arguments, evaluation
    from robustsabn.cli.support.subject import prepare
    from robustsabn.files import make_folder
    from robustsabn.trainers.processes.distributed import accelerator, shared

    evaluate = _engine(args, ThreatModel(args.norm, arguments.above_zero("--eps", args.eps) or 0.0), size)
    device = arguments.device(args.device)
    workers = accelerator(cpu=device is not None and device.type == "cpu")
    subject = prepare(
        args.model,
        args.data,
        weights=args.weights,
        num_classes=args.num_classes,
        n=args.n,
        route=args.route,
        download=args.download,
        device=workers.device if device is None or workers.num_processes > 1 else device,
    )
    name = f"autoattack-{evaluation.short(args.model)}"
    with ExitStack() as held:
        folder = shared(workers, lambda: evaluation.claim(args.out, name, args.resume, held))
        main = workers.is_main_process
        # check the disk space first, for the journal of adversarial images and two files of them
        shared(workers, lambda: make_folder(folder, 3 * subject.x.numel() * 4))
        if main:
            for doubt in subject.doubts:
                print(f"warning: {doubt}", flush=True)
            for note in subject.notes:
                print(f"note: {note}", flush=True)
        if not main and not _own(args):
            return  # other engines use one process
        with evaluation.stoppable(), _kept(args, folder), live() if main else nullcontext() as show:
            before = _written(folder)
            report = evaluate(subject, folder, show)
        if main:
            if args.resume and (folder / "report.json").exists() and _written(folder) == before:
                print(f"the evaluation in {folder} was already finished: no image was attacked again")
            _close(args, report, subject, folder)


def _written(folder: Path) -> list[Path]:
    """The parts of the journal; a call that attacks adds one."""
    return sorted((folder / "journal").glob("part-*.bin"))


def _own(args: argparse.Namespace) -> bool:
    return args.attack is None and args.engine == "robustsabn"


def _engine(args: argparse.Namespace, threat: "ThreatModel", size: int | None) -> "Engine":
    """A function of (subject, folder, progress) that returns a report; wrong names are refused at once."""
    from robustsabn.attacks.adapters import foreign, foreign_report, official
    from robustsabn.attacks.autoattack.autoattack import AutoAttack
    from robustsabn.attacks.autoattack.versions import attacks_of
    from robustsabn.cli.support.evaluation import options

    if args.attack:
        attack = foreign(args.attack, threat, options(args.overrides), seed=args.seed)
        return lambda subject, folder, show: foreign_report(
            attack, subject.model, *subject.there(), ids=subject.ids, batch_size=size or 250
        )
    attacks = [name.strip() for name in args.attacks.split(",")] if args.attacks else None
    if args.engine == "official":
        return lambda subject, folder, show: official(
            subject.model,
            *subject.there(),
            threat,
            version=args.version,
            attacks=attacks,
            seed=args.seed,
            batch_size=size or 250,
            ids=subject.ids,
        )
    attacks_of(args.version, threat, args.seed, attacks)
    return lambda subject, folder, show: AutoAttack(
        threat,
        version=args.version,
        attacks=attacks,
        seed=args.seed,
        batch_size=size or "auto",
        folder=folder,
        resume=args.resume,
        progress=show,
        compile=args.compile,
        autocast=args.autocast,
    )(subject.model, subject.x, subject.y, ids=subject.ids)


def _close(args: argparse.Namespace, report: "Report", subject: "Subject", folder: Path) -> None:
    from robustsabn.attacks.report import Flag
    from robustsabn.attacks.reporting import tell, write, write_robustbench
    from robustsabn.cli.support.evaluation import command
    from robustsabn.report.following import browse

    doubts = [
        Flag(name="doubtful", severity="warning", count=0, ids=(), message=doubt) for doubt in subject.doubts
    ]
    notes = [Flag(name="data", severity="note", count=0, ids=(), message=note) for note in subject.notes]
    report = replace(report, flags=(*doubts, *notes, *report.flags))
    about = {**subject.about, "command": command(args.argv)}
    tell(report)  # first, so that the number is not lost if files cannot be written
    write(report, folder, classes=subject.classes, x=subject.x, about=about, title=args.title)
    if args.robustbench:
        write_robustbench(report, folder, args.robustbench, args.data.partition(":")[0])
    print(f"written to {folder}: report.html, report.json, per_sample.csv, adversarial.safetensors")
    print(browse(folder / "report.html"))


@contextmanager
def _kept(args: argparse.Namespace, folder: Path) -> Iterator[None]:
    """Print how to continue if the evaluation is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        if _own(args):
            print(
                "stopped; finished images are kept: continue by the same command with --resume --out "
                f"{folder}"
            )
        raise


def _check(args: argparse.Namespace) -> int | None:
    """Refuse options that exclude each other; returns the batch size, None for auto."""
    from robustsabn.errors import UsageError

    if args.attack and (args.engine != "robustsabn" or args.version or args.attacks):
        raise UsageError("--attack excludes --engine, --version and --attacks; leave them out")
    if args.overrides and not args.attack:
        raise UsageError(f"{args.overrides[0]!r} is an option of --attack LIB:CLASS, which is missing")
    if not _own(args) and (args.resume or args.compile or args.autocast):
        raise UsageError(
            "--resume, --compile and --autocast work with engine robustsabn only; leave them out"
        )
    args.version = args.version or ("custom" if args.attacks else "standard")
    if args.version == "custom" and not args.attacks and not args.attack:
        raise UsageError("--version custom needs --attacks, such as --attacks apgd-ce,square")
    if args.robustbench and not re.fullmatch(r"[\w+-][\w.+-]*", args.robustbench):
        raise UsageError(f"--robustbench is {args.robustbench!r}; give a name for two files, without folders")
    if args.robustbench and (args.attack or args.version != "standard" or args.autocast):
        raise UsageError("--robustbench needs version standard, without --autocast")
    from robustsabn.cli.support.arguments import at_least_one

    at_least_one("--n", args.n)
    at_least_one("--num-classes", args.num_classes)
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.batch_size == "auto":
        return None
    if not args.batch_size.isdecimal() or int(args.batch_size) < 1:
        raise UsageError(f"--batch-size must be auto or a number from 1, got {args.batch_size!r}")
    return int(args.batch_size)
