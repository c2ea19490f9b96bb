"""`robustsabn export RUN`: one route of a trained run as a plain network in a file."""

import argparse
from pathlib import Path

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
    from robustsabn.trainers import export

    difference = export(
        args.run_folder, args.out, route=args.route, format=args.format, checkpoint=args.checkpoint
    )
    _say(args, difference)


def _say(args: argparse.Namespace, difference: float) -> None:
    from robustsabn.config.given import is_given
    from robustsabn.report.following import following
    from robustsabn.report.numbers import eps_text
    from robustsabn.trainers import load_run_config

    print(f"written to {args.out}; its logits differ from the run's by at most {difference:.1g}")
    config = load_run_config(args.run_folder)
    model, attack = config.model, config.attack
    if args.out.suffix == ".safetensors" and not config.model_options and not is_given(model):
        subject = "--model", model, "--weights", args.out, "--data", config.data
        print(following("autoattack", *subject, "--norm", attack.norm, "--eps", eps_text(attack.eps)))
    else:
        print(following("report", args.run_folder))
