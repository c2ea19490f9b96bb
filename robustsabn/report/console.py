"""What the terminal shows of results: tables, and the bar of what takes long."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = ["fitted", "moves", "output", "progress_bar", "result_table"]


def output() -> Console:
    """The terminal; a file, which has no margin, takes at least 200 characters to a line."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    return console


def result_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows of text as it is, the first column to the left and unbroken, the others to the right."""
    cells = [[Text(cell) for cell in row] for row in rows]
    table = Table(title=Text(title), title_justify="left")
    longest = max((len(word) for name, *_ in cells for word in name.plain.split()), default=0)
    for i, name in enumerate(head):
        table.add_column(Text(name), justify="right" if i else "left", min_width=0 if i else longest)
    for row in cells:
        table.add_row(*row)
    return table


def fitted(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Table]:
    """The rows as tables that are at most `width` characters wide, without a break inside of a cell.

    The table as it is; if that is too wide, with rows and columns exchanged; else one below the other, each
    with the first column and as many of the others as fit.
    """
    if _narrowest(head, rows) <= width:
        return [_whole(title, head, rows, width)]
    turned = [[heading, *(row[i] for row in rows)] for i, heading in enumerate(head) if i]
    names = [head[0], *(name for name, *_ in rows)]
    if _narrowest(names, turned) <= width:
        return [_whole(title, names, turned, width)]
    parts: list[list[int]] = [[0]]
    for i in range(1, len(head)):
        if len(parts[-1]) > 1 and _narrowest(*_columns(head, rows, [*parts[-1], i])) > width:
            parts.append([0])
        parts[-1].append(i)
    return [_whole("" if i else title, *_columns(head, rows, part), width) for i, part in enumerate(parts)]


def _columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], places: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    return [head[i] for i in places], [[row[i] for i in places] for row in rows]


def _whole(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A table in which only headings and cells of the first column are broken, from the right, if it must."""
    table = result_table(title, head, rows)
    table.title = table.title or None
    left = width - _narrowest(head, rows)
    for i, column in enumerate(table.columns):
        least = _column(head, rows, i)
        more = max(0, min(left, max(map(len, (head[i], *(row[i] for row in rows)))) - least))
        column.width, left = least + more, left - more
    return table


def _narrowest(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The least width of a table: headings and the first column break at spaces, other cells nowhere."""
    return sum(_column(head, rows, i) + 3 for i in range(len(head))) + 1


def _column(head: Sequence[str], rows: Sequence[Sequence[str]], place: int) -> int:
    cells = [row[place] for row in rows]
    words = [word for text in (head[place], *(() if place else cells)) for word in text.split()]
    return max(map(len, [*words, *(cells if place else ())]), default=0)


def moves(console: Console) -> bool:
    """Whether the console can redraw a bar: a terminal, or a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def progress_bar(console: Console) -> Progress:
    """A bar for tasks with a field `note`, gone when it ends; nothing where the console cannot redraw."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not moves(console),
    )
