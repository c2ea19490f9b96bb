"""`robustsabn fd A B`: distances between the images of A and the real images of B."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from robustsabn.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustsabn.data import ImageSet
    from robustsabn.metrics.sources import Source

__all__ = ["HELP", "configure", "run"]

HELP = "distances of images to real ones, in the features of a named extractor"
EPILOG = (
    "A and B are a folder of images or of class folders, an .npz file of images, or a data set such as "
    "digits or cifar10:ROOT; A may be the run folder of a GAN."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("images", metavar="A", help="the images to measure")
    parser.add_argument("real", metavar="B", help="the real images to compare with")
    parser.add_argument(
        "--extractor",
        default="digits",
        metavar="SPEC",
        help="digits (the default), inception[:FILE], FILE.py:FUNCTION, or a run folder",
    )
    parser.add_argument(
        "--judge", metavar="SPEC", help="a classifier, given in the same way, for class accuracy"
    )
    parser.add_argument(
        "--n", type=int, help="number of images of A; all by default, of a run as many as B has"
    )
    parser.add_argument("--real-n", type=int, help="number of images of B; at most 50,000 by default")
    parser.add_argument(
        "--part", choices=("train", "validation", "test", "all"), help="part of A, if it has parts"
    )
    parser.add_argument(
        "--real-part", choices=("train", "validation", "test", "all"), help="part of B; train by default"
    )
    parser.add_argument("--only", metavar="NAMES", help="some of the metrics, such as fid,classes")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last", "ema"),
        help="checkpoint of a run; by default ema if it has one",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of samples and subsets")
    parser.add_argument("--batch-size", type=int, default=256, help="images at a time, 256 by default")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write the numbers")


def run(args: argparse.Namespace) -> None:
    """Print the table; write the numbers if chosen."""
    import json

    import torch
    from rich.console import Console

    from robustsabn.cli.support.arguments import at_least_one, device
    from robustsabn.cli.support.targets import file_to_write
    from robustsabn.files import make_folder, write_text
    from robustsabn.metrics import Reference
    from robustsabn.metrics.reference import check_metrics
    from robustsabn.metrics.sources import source
    from robustsabn.metrics.table import quality_table
    from robustsabn.report.following import following

    at_least_one("--n", args.n)
    at_least_one("--real-n", args.real_n)
    at_least_one("--batch-size", args.batch_size)
    args.json = file_to_write("--json", args.json)
    only = None if args.only is None else args.only.split(",")
    check_metrics(only)
    console = Console(soft_wrap=True, highlight=False)
    place = device(args.device) or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if _run(args.real) is not None:
        raise UsageError(f"{args.real} is a run; give it first, and then the real images: fd RUN digits")
    real = source(args.real, args.real_part)
    fake = _images(args, real, place)
    reference = Reference(
        cast("Tensor | ImageSet", real.images),
        args.extractor,
        labels=real.labels,
        judge=args.judge,
        held_out=real.held_out,
        name=real.name,
        split=real.split,
        n=args.real_n,
        device=place,
        batch_size=args.batch_size,
        progress=console.is_terminal,
    )
    found = reference.measure(fake.images, fake.labels, only=only, seed=args.seed, what=args.images)
    console.print(quality_table(found, f"{fake.name} against {real.name}"))
    for note in (*fake.notes, *real.notes, *found.notes):
        console.print(f"note: {note}", markup=False)
    if args.json is not None:
        make_folder(args.json.parent)
        content = {**found.to_dict(), "images": args.images, "numbers": found.numbers, "seed": args.seed}
        write_text(args.json, json.dumps(content, indent=2, allow_nan=False) + "\n")
        print(f"written to {args.json}")
    if _run(args.images) is not None:
        print(following("sample", args.images, "--out", "grid.png"))
    elif args.json is None:
        print(following(*args.argv, "--json", "distances.json"))


def _images(args: argparse.Namespace, real: "Source", device: "torch.device") -> "Source":
    """What A names, with the labels of B."""
    from robustsabn.metrics.sources import source

    run = _run(args.images)
    if run is not None:
        if args.part is not None:
            raise UsageError(f"--part: {run} is a run, which has no parts; leave it out")
        return _samples(args, real, device)
    if args.checkpoint is not None:
        raise UsageError(f"--checkpoint: {args.images} is no run folder; leave it out")
    return source(args.images, args.part).sample(args.n, args.seed).numbered_as(real)


def _run(text: str) -> Path | None:
    """The run folder that `text` names, if it names one."""
    from robustsabn.errors import ModelError
    from robustsabn.models.spec import run_folder
    from robustsabn.paths import sweep_runs

    try:
        return run_folder(text)
    except ModelError:
        if sweep_runs(Path(text)):
            raise
        return None  # another folder


def _samples(args: argparse.Namespace, real: "Source", device: "torch.device") -> "Source":
    """Images of the generator of a run, as many of each class as can be, made while they are measured."""
    import torch

    from robustsabn.metrics.sources import Source
    from robustsabn.trainers.gan.sampling import generated, latents, load_generator

    loaded = load_generator(args.images, args.checkpoint)
    generator = loaded.generator.to(device)
    n = args.n or min(len(cast("Tensor | ImageSet", real.images)), 50_000)
    labels = torch.tensor(loaded.present)[torch.arange(n) * len(loaded.present) // n]
    z = latents(generator, n, args.seed)
    batches = (
        (generated(generator, part, y), y)
        for part, y in zip(torch.split(z, args.batch_size), torch.split(labels, args.batch_size), strict=True)
    )
    name = f"{args.images} ({loaded.checkpoint}, step {loaded.step})"
    if real.classes is not None and real.classes != loaded.classes:
        raise UsageError(
            f"{args.images} generates {', '.join(loaded.classes[:10])}, {real.name} has "
            f"{', '.join(real.classes[:10])}; give the set that the run was trained on"
        )
    return Source(batches, None, name, "samples", loaded.classes)
