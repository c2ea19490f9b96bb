"""Results of evaluations, and how their numbers are written in tables and on axes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from robustsabn.report.numbers import duration, percent
from robustsabn.report.shown import Shown

__all__ = ["Column", "Measured", "column_of", "columns_of"]


@dataclass(frozen=True, repr=False)
class Measured(Shown):
    """The result of an evaluation, a frozen dataclass of numbers, text and dictionaries.

    It is recorded in metrics.jsonl.
    """

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    def numbers(self) -> dict[str, float]:
        """The numbers that `compare` shows as columns, by name; by default all numeric fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}

    @property
    def summary(self) -> str:
        columns = columns_of(self.numbers())
        return ", ".join(f"{columns[k].heading} {columns[k].text(v)}" for k, v in self.numbers().items())

    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        return tuple(self.numbers()), [list(self.numbers().values())]

    @property
    def protocol(self) -> str:
        """How it was measured, in words; numbers of different protocols cannot be compared."""
        return ""

    def measurement(self) -> dict[str, Any]:
        """How it was measured, for JSON."""
        return {}

    @property
    def warning(self) -> str | None:
        """A one-line warning about the numbers, or None."""
        return None


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading and the unit of its numbers.

    The unit is "%" for a share in [0, 1], "s" for a time in seconds, or empty.
    """

    heading: str
    unit: Literal["", "%", "s"] = ""

    @property
    def head(self) -> str:
        """The heading above cells of `spread`, which do not repeat the unit."""
        return f"{self.heading} (%)" if self.unit == "%" else self.heading

    @property
    def axis(self) -> str:
        """The label of an axis with `scaled` values."""
        return f"{self.heading} in {self.unit}" if self.unit else self.heading

    def scaled(self, value: float) -> float:
        """The value in its unit."""
        return 100 * value if self.unit == "%" else value

    def text(self, value: float) -> str:
        """One value with its unit."""
        if self.unit == "%":
            return percent(value)
        return duration(value) if self.unit == "s" else f"{value:.4g}"

    def spread(self, mean: float, deviation: float | None) -> str:
        """A mean and, if there is one, a standard deviation; times have none."""
        if self.unit == "s":
            return duration(mean)
        mean_text, deviation_text = ("{:.2f}", "{:.2f}") if self.unit == "%" else ("{:.4g}", "{:.2g}")
        text = mean_text.format(self.scaled(mean))
        if deviation is None:
            return text
        return f"{text} ± {deviation_text.format(self.scaled(deviation))}"


def column_of(name: str) -> Column:
    """The default column of a number.

    A name that ends in "accuracy" is a share, one that ends in "seconds" a time.
    """
    unit: Literal["", "%", "s"] = (
        "%" if name.endswith("accuracy") else "s" if name.endswith("seconds") else ""
    )
    words = f"{name.removesuffix('_seconds')} time" if unit == "s" else name
    return Column(re.sub(r"_(?!\d)", " ", words), unit)  # relu1_1 is one word


def columns_of(names: Iterable[str]) -> dict[str, Column]:
    """A column for each of these numbers."""
    return {name: column_of(name) for name in names}
