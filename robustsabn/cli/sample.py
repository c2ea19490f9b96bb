"""`robustsabn sample RUN`: images of chosen classes from a trained generator."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustsabn.errors import UsageError
from robustsabn.report.following import following
from robustsabn.text import counted

if TYPE_CHECKING:
    from robustsabn.trainers.gan.sampling import LoadedGenerator

__all__ = ["HELP", "configure", "run"]

HELP = (
    "images of chosen classes from the run of a GAN, as a picture, a folder of PNGs or an .npz, without data"
)
STEPS = 9
BATCH = 250


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, such as runs/gan-digits")
    parser.add_argument("--classes", metavar="A,B", help="names or numbers of classes; all by default")
    parser.add_argument("--n", metavar="N", type=int, default=64, help="number of images, 64 by default")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the latents, 0 by default")
    parser.add_argument(
        "--truncation",
        metavar=("T"),
        help="redraw latent values beyond T, such as 0.5, for more typical images",
    )
    parser.add_argument(
        "--interpolate", metavar="A,B", help="one row for each of N latents, from class A to class B"
    )
    parser.add_argument(
        "--out", metavar="F", type=Path, required=True, help="FILE.png, FILE.npz, or a new folder"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "last", "ema"), help="by default ema if the run has it"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N")


def run(args: argparse.Namespace) -> None:
    """Generate the images and write them."""
    from robustsabn.arguments import a_whole_number
    from robustsabn.cli.support.arguments import above_zero, device
    from robustsabn.scalars import LARGEST
    from robustsabn.trainers.gan.output import check_target
    from robustsabn.trainers.gan.sampling import load_generator

    a_whole_number("--n", args.n, UsageError, most=10_000_000)
    a_whole_number("--seed", args.seed, UsageError, 0, LARGEST)
    args.truncation = above_zero("--truncation", args.truncation)
    if args.interpolate is not None and args.classes is not None:
        raise UsageError("--interpolate names its classes itself; leave --classes out")
    args.out = check_target(args.out, picture=args.interpolate is not None)
    loaded = load_generator(args.run_folder, args.checkpoint)
    loaded.generator.to(device(args.device) or "cpu")
    if args.interpolate is None:
        _classes(args, loaded)
    else:
        _interpolation(args, loaded)
    print(following("report", args.run_folder))


def _classes(args: argparse.Namespace, loaded: "LoadedGenerator") -> None:
    import torch

    from robustsabn.trainers.gan.output import chosen_classes, write
    from robustsabn.trainers.gan.sampling import sample

    chosen = chosen_classes(args.classes, loaded.classes, loaded.present)
    if args.n < len(chosen):
        raise UsageError(
            f"--n {args.n} is fewer than the {len(chosen)} classes; give at least one image per class"
        )
    labels = torch.tensor(chosen)[torch.arange(args.n) * len(chosen) // args.n]
    images = sample(loaded.generator, labels, seed=args.seed, truncation=args.truncation, batch_size=BATCH)
    write(args.out, images, labels, loaded.classes)
    what = f"{counted(args.n, 'image')} of {counted(len(chosen), 'class', 'classes')}"
    print(f"{what} written to {args.out} ({_source(loaded)})")


def _interpolation(args: argparse.Namespace, loaded: "LoadedGenerator") -> None:
    from robustsabn.trainers.gan.output import chosen_classes, write_picture
    from robustsabn.trainers.gan.sampling import between_classes, latents
    from robustsabn.trainers.runs.grids import grid

    ends = chosen_classes(args.interpolate, loaded.classes, loaded.present)
    if len(ends) != 2:
        raise UsageError(f"--interpolate {args.interpolate}: give two different classes, such as 0,3")
    first, last = ends
    z = latents(loaded.generator, args.n, args.seed, args.truncation)
    rows = between_classes(loaded.generator, z, first, last, STEPS)
    write_picture(args.out, grid(rows), loaded.shape[-1])
    print(f"{counted(args.n, 'row')} from one class to the other written to {args.out} ({_source(loaded)})")


def _source(loaded: "LoadedGenerator") -> str:
    return f"checkpoint {loaded.checkpoint}, step {loaded.step}"
