"""`robustsabn report RUN`: a page about a training run, or about a sweep."""

import argparse
from pathlib import Path

__all__ = ["HELP", "configure", "run"]

HELP = "write a page about a run or a sweep: curves, final tables, reports of attacks, pictures"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="the folder of a run or of a sweep")
    parser.add_argument("--title", help="title of the page; the name of the folder by default")


def run(args: argparse.Namespace) -> None:
    """Write RUN/report/index.html; for a sweep, also the pages of its runs and their comparison."""
    from robustsabn.report.following import browse
    from robustsabn.trainers.pages import write_report

    page = write_report(args.run_folder, args.title)
    print(f"written to {page}")
    print(browse(page))
