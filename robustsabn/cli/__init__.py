"""The command line: one file per command, each with `HELP`, `configure(parser)` and `run(args)`.

Nothing slow is imported before a command runs, so that `--help` and `recipes` are fast.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from robustsabn import __version__
from robustsabn.cli import (
    autoattack,
    compare,
    evaluate,
    export,
    fd,
    info,
    nas_score,
    nas_table,
    recipes,
    report,
    sample,
    stylize,
    train,
)
from robustsabn.cli.support.completion import complete
from robustsabn.cli.support.failures import explain, prepare_streams, say
from robustsabn.errors import ModelError, UsageError
from robustsabn.user_code import kept_alive

__all__ = ["main"]

VERBS = {
    "train": train,
    "evaluate": evaluate,
    "autoattack": autoattack,
    "compare": compare,
    "report": report,
    "export": export,
    "sample": sample,
    "fd": fd,
    "nas-score": nas_score,
    "nas-table": nas_table,
    "stylize": stylize,
    "recipes": recipes,
    "info": info,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 2 wrong usage or input, 130 interrupted, 141 the output is closed (as by `| head`).
    """
    prepare_streams()
    try:
        args = _parse(argv)
        with kept_alive(ModelError):
            args.run(args)
        _leave()
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python prints an error at exit
        return 141
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        say(message)
        return 2
    return 0


def _leave() -> None:
    """Leave the process group, if any: otherwise processes may abort while Python shuts down."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    what = "Train, evaluate and export robust image classifiers; train and sample GANs; transfer styles."
    parser = _Parser(prog="robustsabn", description=what)
    parser.add_argument("--version", action="version", version=f"robustsabn {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    for name, verb in VERBS.items():
        part = verbs.add_parser(
            name, help=verb.HELP, description=verb.HELP, epilog=getattr(verb, "EPILOG", None)
        )
        verb.configure(part)
        part.set_defaults(run=verb.run)
    if "_ARGCOMPLETE" in os.environ:
        (config,) = (a for a in verbs.choices["train"]._actions if a.dest == "config")
        complete(parser, config)
    args, rest = parser.parse_known_args(argv)
    if args.verb is None:
        args.run = lambda args: parser.print_help()
    # argparse takes no positional argument after an option: `train digits --resume epochs=3`
    if rest and hasattr(args, "overrides") and not any(word.startswith("-") for word in rest):
        args.overrides += rest
    elif rest:
        words, remedy = rest[0].lstrip("-").split("=") + rest[1:], ""
        if args.verb == "train" and len(words) > 1 and not words[1].startswith("-"):
            remedy = f"; give {words[0]}={words[1]}"
        chosen = parser if args.verb is None else verbs.choices[args.verb]
        chosen.error(f"{rest[0]} is not an option{remedy}")
    args.argv = list(sys.argv[1:] if argv is None else argv)
    return args
