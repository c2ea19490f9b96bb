"""`robustsabn export RUN`: one route of a trained run as a plain network in a file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustsabn.errors import UsageError

if TYPE_CHECKING:
    from robustsabn.trainers.adversarial.runs.models import LoadedRun

__all__ = ["HELP", "configure", "run"]

HELP = "write one route of a run as a plain network that does not need this package"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, such as runs/digits")
    parser.add_argument("--route", help="clean or adv; required if the run has several routes")
    parser.add_argument(
        "--format", metavar="FORMAT", help="safetensors, onnx or pt2; by default the ending of F"
    )
    parser.add_argument("--out", metavar="F", type=Path, required=True, help="the file to write")
    parser.add_argument("--checkpoint", default="best", choices=("best", "last", "ema", "swa"))


def run(args: argparse.Namespace) -> None:
    """Bake the route, write it, and compare it with the run's model."""
    from robustsabn.files import check_name
    from robustsabn.locks import LOCK, locked
    from robustsabn.paths import given_path
    from robustsabn.trainers.adversarial.runs.models import load_run

    target = args.out = given_path(args.out, "--out", UsageError)
    check_name(target)
    if (target.parent / "state.json").is_file():
        raise UsageError(f"--out: {target.parent} is a checkpoint of a run; choose another folder")
    with locked(target.parent, f".{target.name}{LOCK}"):
        _export(args, load_run(args.run_folder, args.checkpoint))


def _export(args: argparse.Namespace, loaded: "LoadedRun") -> None:
    import torch

    from robustsabn.conversion.bake import bake
    from robustsabn.conversion.export import export
    from robustsabn.errors import RouteError
    from robustsabn.routing import maybe_route, routes_of

    routes = routes_of(loaded.model)
    if args.route not in routes and (routes or args.route is not None):
        given = "--route is missing" if args.route is None else f"no route {args.route!r}"
        raise RouteError(
            f"{given}: {args.run_folder} has {', '.join(routes) or 'no routes, leave --route out'}"
        )
    images = torch.rand(5, *loaded.shape, generator=torch.Generator().manual_seed(0))
    with maybe_route(loaded.model, args.route):
        difference = export(
            bake(loaded.model, args.route) if routes else loaded.model,
            args.out,
            loaded.model,
            images,
            format=args.format,
            fresh=loaded.plain(),
            notes={"model": loaded.config.model, "route": args.route or "", "classes": loaded.classes},
        )
    print(f"written to {args.out}; its logits differ from the run's by at most {difference:.1g}")
