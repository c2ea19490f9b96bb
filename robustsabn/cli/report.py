"""`robustsabn report RUN`: a page about a training run."""

import argparse
from pathlib import Path

__all__ = ["HELP", "configure", "run"]

HELP = "write a page about a run: curves, final tables, reports of attacks, pictures"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run folder, such as runs/digits")
    parser.add_argument("--title", help="title of the page; the name of the folder by default")


def run(args: argparse.Namespace) -> None:
    """Write RUN/report/index.html."""
    from robustsabn.report.following import browse
    from robustsabn.trainers.pages import write_run_page

    page = write_run_page(args.run_folder, args.title)
    print(f"written to {page}")
    print(browse(page))
