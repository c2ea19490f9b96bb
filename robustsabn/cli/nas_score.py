"""`robustsabn nas-score ARCH`: accuracy, rank and costs of an architecture by a table of trained cells."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustsabn.errors import UsageError
from robustsabn.nas.cell import EXAMPLE, Cell

if TYPE_CHECKING:
    from rich.table import Table as Printed

    from robustsabn.nas.table import Table

__all__ = ["HELP", "configure", "read_architecture", "run"]

HELP = "accuracy, rank, regret and costs of a cell of NAS-Bench-201 by a table of trained cells"
EPILOG = (
    f"ARCH is an architecture string, such as '{EXAMPLE}', NASLib's list, such as 2,1,0,2,1,0, or the run "
    "folder of a search, whose found cell is taken; without --table, it shows what the run measured."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("architecture", metavar="ARCH", help="the cell")
    parser.add_argument(
        "--table",
        metavar="TABLE",
        help="a CSV file, the folder of NATS-Bench, or digits-hard, which is part of the package",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers")


def run(args: argparse.Namespace) -> None:
    """Print the table; write the numbers if chosen."""
    import json

    from robustsabn.cli.support.targets import file_to_write
    from robustsabn.files import make_folder, write_text
    from robustsabn.report.following import following

    target = file_to_write("--json", args.json)
    content = _measured(args.architecture) if args.table is None else _looked_up(args)
    if target is not None:
        make_folder(target.parent)
        write_text(target, json.dumps(content, indent=2, allow_nan=False) + "\n")
        print(f"written to {target}")
    cell = f"model_options.cell={content['cell']}"
    print(following("train", "digits", "model=nas-bench-201", cell))


def _looked_up(args: argparse.Namespace) -> dict[str, Any]:
    """Print the place of a cell in a table; the numbers for JSON."""
    from dataclasses import asdict

    from robustsabn.nas.naslib import to_naslib
    from robustsabn.nas.scores import score
    from robustsabn.report.console import output

    cell, table = read_architecture(args.architecture), _table(args.table)
    scores = score(table, cell)
    output().print(_printed(cell, table))
    return {
        "cell": str(cell),
        "naslib": to_naslib(cell),
        "skips": cell.skips,
        "table": table.name,
        "datasets": {dataset: asdict(found) for dataset, found in scores.items()},
    }


def _measured(text: str) -> dict[str, Any]:
    """Print what a search measured of its cell; the numbers for JSON."""
    from robustsabn.paths import given_path
    from robustsabn.report.console import output

    if "|" in text or not given_path(text, "ARCH", UsageError).is_dir():
        read_architecture(text)  # a wrong one is said first
        raise UsageError(
            "--table is missing: a table of trained cells; give a CSV file, the folder of NATS-Bench, or "
            "digits-hard"
        )
    from robustsabn.trainers.nas.results import RESULTS, last_evaluation

    measured = last_evaluation(text)
    output().print(RESULTS.table(measured, text))
    return measured.to_dict()


def read_architecture(text: str) -> Cell:
    """The cell that an architecture string, a list of NASLib, or the run folder of a search describes.

    Raises ModelError and UsageError for other text, and CheckpointError for another run.
    """
    from robustsabn.nas.naslib import from_naslib
    from robustsabn.paths import given_path
    from robustsabn.text import quote

    if re.fullmatch(r"\s*[\[(]?\s*-?\d+(\s*,\s*-?\d+)*\s*,?\s*[\])]?\s*", text):
        return from_naslib([int(number) for number in re.findall(r"-?\d+", text)])
    if "|" in text:
        return Cell.parse(text)
    if given_path(text, "ARCH", UsageError).is_dir():
        from robustsabn.trainers.nas.results import found_cell

        return found_cell(text)
    raise UsageError(
        f"{quote(text)} is no folder, no architecture such as {EXAMPLE}, and no list of NASLib such as "
        "2,1,0,2,1,0"
    )


def _table(spec: str) -> "Table":
    """The table, with a bar while a folder of NATS-Bench is read."""
    from robustsabn.nas.sources import open_table
    from robustsabn.report.console import output, progress_bar

    with progress_bar(output()) as bar:
        task = bar.add_task("reading the table", total=None, note="")
        return open_table(spec, lambda done, total: bar.update(task, completed=done, total=total))


def _printed(cell: Cell, table: "Table") -> "Printed":
    from robustsabn.nas.naslib import to_naslib
    from robustsabn.nas.scores import score
    from robustsabn.report.console import result_table
    from robustsabn.report.numbers import percent
    from robustsabn.text import counted

    def millions(count: int | None) -> str:
        return "" if count is None else f"{count / 1e6:,.3f} M"

    rows = [
        (
            dataset,
            percent(found.accuracy),
            f"{found.rank:,} of {found.cells:,}",
            f"{found.percentile:.2f}",
            percent(found.regret),
            millions(found.flops),
            millions(found.parameters),
        )
        for dataset, found in score(table, cell).items()
    ]
    head = ("data set", "test accuracy", "rank", "percentile", "regret", "FLOPs", "parameters")
    printed = result_table(f"{cell}\nby {table.name}", head, rows)
    printed.caption = f"{counted(cell.skips, 'skip')}; NASLib's list {list(to_naslib(cell))}"
    printed.caption_justify = "left"
    return printed
