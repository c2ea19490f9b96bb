"""`robustsabn train CONFIG [key=value …]`: train by a recipe or a YAML file."""

import argparse

__all__ = ["EPILOG", "HELP", "configure", "run"]

HELP = "train a classifier, a GAN, a supernet or a style network, and evaluate its best checkpoint"
EPILOG = "Several processes or GPUs: accelerate launch -m robustsabn train CONFIG"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a YAML file or the name of a recipe, such as digits"
    )
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help=(
            "overrides of the configuration, such as out=runs/mine epochs=5 attack.eps=8/255 norm=auxbn; "
            "seeds=0,1,2 trains one seed after the other and compares them, and so do several values of any "
            "key, such as attack.eps=2/255,4/255"
        ),
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run, or the sweep, from its last checkpoint"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the configuration with all keys, and stop"
    )


def run(args: argparse.Namespace) -> None:
    """Train, with one setting or several, or print the configuration."""
    from robustsabn.config import dump
    from robustsabn.trainers import sweep, train
    from robustsabn.trainers.grid import points
    from robustsabn.trainers.sweeps import common, split
    from robustsabn.trainers.tasks import load_config

    seeds, overrides = split(args.overrides)
    runs = points(args.config, overrides)
    if args.print_config:
        note = "" if seeds is None else f"# seeds {', '.join(map(str, seeds))} in turn, in folders seed-N\n"
        if len(runs) > 1:
            note += f"# in turn: {'; '.join(point.words for point in runs)}; below is the first\n"
        first = runs[0].overrides
        config = load_config(args.config, first) if seeds is None else common(args.config, first)
        print(note + dump(config), end="")
    elif seeds is not None or len(runs) > 1:
        sweep(args.config, overrides, seeds, resume=args.resume)
    else:
        train(args.config, overrides, resume=args.resume)
