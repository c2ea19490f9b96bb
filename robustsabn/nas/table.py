"""Tables of the accuracies of trained cells: look-ups, ranks, and the reader of CSV files."""

import csv
import gzip
import io
import math
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO

from robustsabn.errors import DataError, ModelError
from robustsabn.files import write_text
from robustsabn.nas.cell import Cell, all_cells
from robustsabn.paths import given_path
from robustsabn.text import counted, nearest, quote, shorten

__all__ = ["Table", "read_table", "write_table"]

_NAMES = {"c10": "cifar10", "c100": "cifar100", "in16": "imagenet16-120"}
_COLUMNS = "arch, and one such as cifar10_test for each data set"
_PARTIAL = "restore the missing rows, or leave out the column index if only some cells are meant"


class Table:
    """The test accuracies of cells in percent, on one or more data sets.

    - accuracies: for each data set, the accuracy of each of `cells`, in their order.
    - name: what messages call the table.

    A look-up raises ModelError for a cell that the table does not have, and DataError for a data set that it
    does not have.

    Example:

        >>> from robustsabn.nas import Cell, Table
        >>> skips, convolutions = Cell((1,) * 6), Cell((3,) * 6)
        >>> table = Table([skips, convolutions], {"cifar100": [15.61, 71.11]})
        >>> table.rank(skips, "cifar100"), table.percentile(skips, "cifar100")
        (2, 50.0)
        >>> round(table.regret(skips, "cifar100"), 2)
        55.5
    """

    def __init__(
        self, cells: Sequence[Cell], accuracies: Mapping[str, Sequence[float]], name: str = "the table"
    ) -> None:
        self.cells, self.name = tuple(cells), name
        self.datasets = tuple(accuracies)
        self._row = {cell: row for row, cell in enumerate(self.cells)}
        if not self.cells or not self.datasets or len(self._row) != len(self.cells):
            raise DataError(f"{name} needs one or more distinct cells and data sets")
        if any(len(column) != len(self.cells) for column in accuracies.values()):
            raise DataError(f"{name} needs one accuracy per cell, for each data set")
        self._accuracies = {dataset: tuple(map(float, column)) for dataset, column in accuracies.items()}
        for dataset, column in self._accuracies.items():
            for row, accuracy in enumerate(column):
                if not 0 <= accuracy <= 100:
                    raise DataError(
                        f"{name}: row {row} has the accuracy {accuracy:g} on {dataset}; give 0 to 100 percent"
                    )

    def __len__(self) -> int:
        return len(self.cells)

    def __contains__(self, cell: object) -> bool:
        return cell in self._row

    def accuracy(self, cell: Cell, dataset: str) -> float:
        """Test accuracy of a cell, in percent."""
        column = self._column(dataset)
        if cell not in self._row:
            raise ModelError(
                f"{self.name} has {counted(len(self), 'cell')}, but not {cell}; give a table that has it, or "
                "make one by `robustsabn nas-table`"
            )
        return column[self._row[cell]]

    def rank(self, cell: Cell, dataset: str) -> int:
        """1 + the number of cells that are better; cells of the same accuracy share their rank."""
        return self.rank_of(self.accuracy(cell, dataset), dataset)

    def rank_of(self, accuracy: float, dataset: str) -> int:
        """The rank that a cell of this accuracy has among the cells of the table."""
        self._column(dataset)
        column = self._sorted[dataset]
        return 1 + len(column) - bisect_right(column, accuracy)

    def percentile(self, cell: Cell, dataset: str) -> float:
        """The share of cells that are not better, itself included, in percent: 100 is the best cell."""
        return 100 * (len(self) - self.rank(cell, dataset) + 1) / len(self)

    def best(self, dataset: str) -> Cell:
        """The first of the cells with the highest accuracy."""
        column = self._column(dataset)
        return self.cells[column.index(max(column))]

    def regret(self, cell: Cell, dataset: str) -> float:
        """How many points of accuracy the cell is below the best one."""
        return max(self._column(dataset)) - self.accuracy(cell, dataset)

    def _column(self, dataset: str) -> tuple[float, ...]:
        if dataset not in self._accuracies:
            raise DataError(
                f"{self.name} has no data set {quote(dataset)}{nearest(dataset, self.datasets)}; it has "
                f"{', '.join(self.datasets)}"
            )
        return self._accuracies[dataset]

    @cached_property
    def _sorted(self) -> dict[str, list[float]]:
        return {dataset: sorted(column) for dataset, column in self._accuracies.items()}


def read_table(path: str | Path, name: str | None = None) -> Table:
    """The table in a CSV file, which may be compressed by gzip; messages call it `name` or by its file.

    Columns: `arch`, the architecture string; for each data set a column such as `cifar10_test`, the test
    accuracy in percent, mean over seeds (`c10`, `c100` and `in16` are short for `cifar10`, `cifar100` and
    `imagenet16-120`). A column `index` means that the table is the whole benchmark: it counts the 15,625
    cells from 0. Without it, a table may have any cells of the space. Other columns, and lines that begin
    with #, are skipped.

    Raises DataError, which names the row, for a missing or repeated cell, for a cell of another space, and
    for an accuracy that is not 0 to 100.
    """
    path = given_path(path, "the table", DataError)
    try:
        with _opened(path) as file:
            return _read(file, name or path.name)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path}: cannot be read ({shorten(reason)}); give a CSV file, plain or .gz"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; give a CSV file with the columns {_COLUMNS}") from None


def write_table(table: Table, path: str | Path) -> None:
    """Write `table` as a CSV file that `read_table` reads back. Raises WriteError if it cannot be written."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["arch", *(f"{dataset}_test" for dataset in table.datasets)])
    for cell in table.cells:
        lines.writerow([cell, *(table.accuracy(cell, dataset) for dataset in table.datasets)])
    write_text(path, text.getvalue())


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="")


def _read(file: IO[str], name: str) -> Table:
    rows = _rows(file, name)
    _, head = next(rows, (0, []))
    columns = {
        _NAMES.get(found[1], found[1]): place
        for place, column in enumerate(head)
        if (found := re.fullmatch(r"(.+)_test", column))
    }
    if "arch" not in head or not columns or len(set(head)) != len(head):
        raise DataError(f"{name} has the columns {quote(','.join(head))}; a table needs {_COLUMNS}")
    arch, index = head.index("arch"), head.index("index") if "index" in head else None
    cells: dict[Cell, int] = {}
    accuracies: dict[str, list[float]] = {dataset: [] for dataset in columns}
    for line, row in rows:
        where = f"{name}, line {line}"
        if len(row) != len(head):
            raise DataError(f"{where}: {counted(len(row), 'value')} for {len(head)} columns; correct the row")
        try:
            cell = Cell.parse(row[arch])
        except ModelError as error:
            raise DataError(f"{where}: {error}") from None
        if cell in cells:
            raise DataError(f"{where}: the cell {cell} is also in line {cells[cell]}; keep one of the rows")
        if index is not None and row[index] != str(len(cells)):
            raise DataError(
                f"{where}: the index is {quote(row[index])}, but row {len(cells)} is expected; {_PARTIAL}"
            )
        cells[cell] = line
        for dataset, place in columns.items():
            accuracies[dataset].append(_percent(row[place], f"{where}: {head[place]}"))
    if not cells:
        raise DataError(f"{name} has no rows; give a table of accuracies")
    if index is not None and len(cells) < len(all_cells()):
        raise DataError(
            f"{name} ends after row {len(cells) - 1}, but the benchmark has {len(all_cells())}; {_PARTIAL}"
        )
    return Table(tuple(cells), accuracies, name)


def _rows(file: IO[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are neither empty nor comments, with their lines."""
    lines = csv.reader(file)
    try:
        for row in lines:
            if row and not row[0].startswith("#"):
                yield lines.line_num, row
    except csv.Error as error:
        raise DataError(f"{name}, line {lines.line_num}: {error}; give a CSV file") from None


def _percent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise DataError(f"{where} is {quote(text)}; give an accuracy from 0 to 100 percent")
    return value
