"""What the terminal shows of results: tables, and the bar of what takes long."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = ["moves", "output", "progress_bar", "result_table"]


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
