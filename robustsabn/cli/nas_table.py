"""`robustsabn nas-table RECIPE`: a table of cells that are trained from scratch."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustsabn.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table as Printed

    from robustsabn.nas import Table

__all__ = ["HELP", "configure", "run"]

HELP = "train random cells of NAS-Bench-201 from scratch, and write their accuracies as a table for nas-score"
EPILOG = (
    "Each cell is trained as a search by RECIPE trains the cell that it finds: on all training images, for "
    "test.epochs epochs, with test.seeds seeds. Run the command again to continue after an interruption."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("config", metavar="RECIPE", help="a recipe or YAML file of a search, as nas-digits")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="overrides of the configuration")
    parser.add_argument(
        "--cells",
        metavar="N",
        type=int,
        default=200,
        help="number of random cells, 200 by default; no operation, skips and 3x3 convolutions come first",
    )
    parser.add_argument(
        "--arch", metavar="ARCH", action="append", default=[], help="a further cell; may be given repeatedly"
    )
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="seed of the random cells, 0 by default"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the CSV file to write")


def run(args: argparse.Namespace) -> None:
    """Train the cells with a bar, write the table, and print what it holds."""
    import shlex

    from robustsabn.cli.nas_score import read_architecture
    from robustsabn.cli.support.targets import file_to_write
    from robustsabn.report.console import output, progress_bar
    from robustsabn.report.following import following
    from robustsabn.trainers.nas.cell_table import agreement_of_seeds, choose_cells, make_table
    from robustsabn.trainers.nas.config import NasConfig
    from robustsabn.trainers.tasks import load_config

    path = file_to_write("--out", args.out)
    assert path is not None
    cells = list(dict.fromkeys([*choose_cells(args.cells, args.seed), *map(read_architecture, args.arch)]))
    config = load_config(args.config, args.overrides)
    if not isinstance(config, NasConfig):
        raise UsageError(f"{args.config} is no search; give a recipe such as nas-digits")
    console = output()
    with progress_bar(console) as bar:
        task = bar.add_task("cells", total=len(cells), note="")
        table = make_table(
            config,
            cells,
            path,
            shlex.join(["robustsabn", *args.argv]),
            lambda done, total, note: bar.update(task, completed=done, note=note),
        )
    console.print(_printed(table, agreement_of_seeds(path)))
    print(f"written to {path}")
    print(following("train", args.config, f"table={path}"))


def _printed(table: "Table", tau: float | None) -> "Printed":
    """The spread of the accuracies, three cells that are easy to imagine, and how alike two seeds rank."""
    from statistics import quantiles

    from robustsabn.report.console import result_table
    from robustsabn.text import counted
    from robustsabn.trainers.nas.cell_table import LANDMARKS

    (dataset,) = table.datasets
    accuracies = sorted(table.accuracy(cell, dataset) for cell in table.cells)
    quarters = quantiles(accuracies, n=4, method="inclusive") if len(accuracies) > 1 else accuracies * 3
    spread = ("lowest", "a quarter is below", "half are below", "three quarters are below", "best")
    names = ("no operation", "only skips", "only 3x3 convolutions")
    rows = {
        **dict(zip(spread, (accuracies[0], *quarters, accuracies[-1]), strict=True)),
        **{name: table.accuracy(cell, dataset) for name, cell in zip(names, LANDMARKS, strict=True)},
    }
    shown = [(name, f"{value:.2f}") for name, value in rows.items()]
    if tau is not None:
        shown.append(("Kendall's tau of seeds 0 and 1", f"{tau:.2f}"))
    title = f"test accuracy of {counted(len(table), 'cell')}\nbest: {table.best(dataset)}"
    return result_table(title, ["", "%"], shown)
