"""`robustsabn compare RUN…`: one table of several runs, mean and spread over seeds."""

import argparse
from pathlib import Path

from robustsabn.errors import UsageError

__all__ = ["HELP", "configure", "run"]

HELP = "one table of several runs: mean and spread over the seeds of each configuration"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "run_folders",
        metavar="RUN",
        type=Path,
        nargs="+",
        help="a run folder, or a folder that holds run folders, such as that of a sweep",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers")
    parser.add_argument(
        "--html",
        metavar="FILE",
        type=Path,
        help="write a page with the table and plots, and the numbers beside it as .csv and .json",
    )
    parser.add_argument("--title", help="title of the page")


def run(args: argparse.Namespace) -> None:
    """Print the table; write the numbers and the page if chosen."""
    import json

    from robustsabn.files import check_name, make_folder, write_text
    from robustsabn.paths import given_path
    from robustsabn.report.following import browse, following
    from robustsabn.trainers import compare
    from robustsabn.trainers.runs.pages.comparison import print_comparison, write_comparison_page

    targets: list[Path] = []
    for option in ("json", "html"):
        if (given := getattr(args, option)) is not None:
            setattr(args, option, given_path(given, f"--{option}", UsageError))
            targets.append(getattr(args, option))
    for path in targets:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give a file in it, such as {path / 'comparison.html'}")
        check_name(path)
    if args.title is not None and args.html is None:
        raise UsageError("--title is that of the page; give --html FILE, too")
    comparison = compare(args.run_folders)
    for path in targets:
        make_folder(path.parent)
    print_comparison(comparison)
    if args.json is not None:
        write_text(args.json, json.dumps(comparison.to_dict(), indent=2, allow_nan=False) + "\n")
    if args.html is not None:
        targets += write_comparison_page(comparison, args.html, args.title)
    for path in dict.fromkeys(targets):
        print(f"written to {path}")
    page = "--html", "comparison.html"
    print(following("compare", *args.run_folders, *page) if args.html is None else browse(args.html))
