"""Links between pages on the same disk, and files of numbers beside them."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from robustsabn.files import replacing

__all__ = ["beside", "link_to", "write_csv"]


def link_to(text: str, target: Path, page: Path) -> str:
    """A link for a cell of `page` to the file `target`; the text alone if there is no such file."""
    if not target.is_file():
        return text
    address = quote(Path(os.path.relpath(target.resolve(), page.parent.resolve())).as_posix())
    return Markup(f'<a href="{address}">{escape(text)}</a>')


def beside(page: Path, ending: str) -> Path:
    """The file with the name of `page` and this ending, such as table.csv beside table.html."""
    return (
        page.with_suffix(ending) if page.suffix in (".html", ".htm") else page.with_name(page.name + ending)
    )


def write_csv(target: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with its head; None is an empty cell."""
    with replacing(target) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])
