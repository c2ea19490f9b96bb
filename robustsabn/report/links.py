"""Links between pages on the same disk, and files of numbers beside them."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from robustsabn.files import write_text

__all__ = ["address", "beside", "link_to", "write_csv"]


def link_to(text: str, target: Path, page: Path) -> str:
    """A link for a cell of `page` to the file `target`; the text alone if there is no such file."""
    if not target.is_file():
        return text
    relative = Path(os.path.relpath(target.resolve(), page.parent.resolve()))
    return Markup(f'<a href="{address(relative)}">{escape(text)}</a>')


def address(path: Path) -> str:
    """A relative path as the address of a link, whatever bytes its names hold."""
    return quote(os.fsencode(path.as_posix()))


def beside(page: Path, ending: str) -> Path:
    """The file with the name of `page` and this ending, such as table.csv beside table.html."""
    return (
        page.with_suffix(ending) if page.suffix in (".html", ".htm") else page.with_name(page.name + ending)
    )


def write_csv(target: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with its head; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    write_text(target, text.getvalue())
