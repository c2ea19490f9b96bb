"""How results look: one line as text, a table in a notebook, a data frame on request."""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from robustsabn.errors import MissingExtraError
from robustsabn.report.numbers import duration, percent

__all__ = ["Shown", "frame"]


class Shown(ABC):
    """Base of results; a dataclass keeps the short `repr` by `repr=False`."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """The result in one line."""

    @abstractmethod
    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """The names of the columns, and the rows of the table; accuracies are in [0, 1]."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary})"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        head, rows = self.rows()
        names = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in head)
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(_text(name, value))}</td>" for name, value in zip(head, row, strict=True)
            )
            + "</tr>"
            for row in rows
        )
        caption = html.escape(f"{type(self).__name__}: {self.summary}")
        return (
            f'<table><caption style="text-align: left">{caption}</caption>'
            f"<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
        )

    def to_frame(self) -> Any:
        """The table as a pandas.DataFrame, accuracies in [0, 1]; MissingExtraError without pandas."""
        return frame(*self.rows())


def frame(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A pandas.DataFrame of these columns and rows."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise MissingExtraError(
            "pandas is needed for data frames: pip install 'robustsabn[pandas]'"
        ) from None
    return pandas.DataFrame([list(row) for row in rows], columns=list(head))


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return (
            percent(value)
            if name.endswith("accuracy")
            else duration(value)
            if name == "seconds"
            else f"{value:.4g}"
        )
    return str(value)
