"""What all results of this package can do: a table for the terminal, and plain values for JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.table import Table

from robustsabn.files import write_text
from robustsabn.report.console import output

__all__ = ["Result", "number", "plain"]


class Result:
    """Base of the results of an analysis."""

    def table(self) -> Table:
        """The numbers as a table of rich."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        raise NotImplementedError

    def show(self) -> None:
        """Print the table."""
        output().print(self.table())

    def to_json(self, path: str | Path) -> None:
        """Write `to_dict` to the file `path`, as a whole or not at all; undefined numbers become null."""
        write_text(path, json.dumps(plain(self.to_dict()), indent=2, allow_nan=False) + "\n")


def number(value: float, digits: int = 3) -> str:
    """A few digits, and nothing for a number that is not defined."""
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def plain(value: Any) -> Any:
    """The value with lists for tuples, and null for numbers that are not defined."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
