"""`robustsabn train CONFIG [key=value …]`."""

import argparse

__all__ = ["EPILOG", "HELP", "configure", "run"]

HELP = "train a classifier and evaluate its best checkpoint"
EPILOG = "Several processes or GPUs: accelerate launch -m robustsabn train CONFIG"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a YAML file or the name of a recipe, such as digits"
    )
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="laid over the configuration, such as out=runs/mine epochs=5 attack.eps=8/255 norm=auxbn",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run from its last checkpoint")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved configuration, and stop"
    )


def run(args: argparse.Namespace) -> None:
    """Train, or print the configuration."""
    from robustsabn.trainers import TrainConfig, train

    if args.print_config:
        from robustsabn.config import dump, load

        print(dump(load(TrainConfig, args.config, args.overrides)), end="")
        return
    train(args.config, args.overrides, resume=args.resume)
