"""What evaluations find, and how their numbers are written in tables and on axes."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from robustsabn.report.numbers import duration, percent

__all__ = ["Column", "Measured", "column_of", "columns_of"]


@dataclass(frozen=True)
class Measured:
    """What an evaluation found: a frozen dataclass of numbers, text and dictionaries, which metrics.jsonl
    records.
    """

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)

    def numbers(self) -> dict[str, float]:
        """What `compare` has in columns, by name: here every field that is a number."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}

    @property
    def protocol(self) -> str:
        """How it was measured, in words: numbers of different protocols do not compare."""
        return ""

    def measurement(self) -> dict[str, Any]:
        """How it was measured, for JSON."""
        return {}

    @property
    def warning(self) -> str | None:
        """One line where the numbers need one."""
        return None


@dataclass(frozen=True)
class Column:
    """A number in tables: its heading, and its unit: "%" of a share in [0, 1], "s" of a time in seconds, or
    none.
    """

    heading: str
    unit: Literal["", "%", "s"] = ""

    @property
    def head(self) -> str:
        """Above cells of `spread`, which do not repeat the unit."""
        return f"{self.heading} (%)" if self.unit == "%" else self.heading

    @property
    def axis(self) -> str:
        """Beside an axis of `scaled` values."""
        return f"{self.heading} in {self.unit}" if self.unit else self.heading

    def scaled(self, value: float) -> float:
        """The value in the unit."""
        return 100 * value if self.unit == "%" else value

    def text(self, value: float) -> str:
        """One value with its unit."""
        if self.unit == "%":
            return percent(value)
        return duration(value) if self.unit == "s" else f"{value:.4g}"

    def spread(self, mean: float, deviation: float | None) -> str:
        """A mean and, where there is one, a standard deviation; a time has none."""
        if self.unit == "s":
            return duration(mean)
        mean_text, deviation_text = ("{:.2f}", "{:.2f}") if self.unit == "%" else ("{:.4g}", "{:.2g}")
        text = mean_text.format(self.scaled(mean))
        if deviation is None:
            return text
        return f"{text} ± {deviation_text.format(self.scaled(deviation))}"


def column_of(name: str) -> Column:
    """The column of a number that no task describes: names that end in "accuracy" are shares, in "seconds"
    times.
    """
    unit: Literal["", "%", "s"] = (
        "%" if name.endswith("accuracy") else "s" if name.endswith("seconds") else ""
    )
    words = f"{name.removesuffix('_seconds')} time" if unit == "s" else name
    return Column(words.replace("_", " "), unit)


def columns_of(names: Iterable[str]) -> dict[str, Column]:
    """A column for each of these numbers."""
    return {name: column_of(name) for name in names}
