"""Which number of metrics.jsonl is in which chart: the tags of TensorBoard and of other trackers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["Chart", "Charts", "flat"]

COMMON = {
    "balance of gradients, with analysis=N": {
        f"analysis/balance/{group}": f"balance/{group}" for group in ("weight", "scale", "shift")
    },
    "images a second": {"train/images_per_second": "speed/images a second"},
    "learning rate": {"train/lr": "rate/lr"},
}
"""Charts of every task, after those that it shows first."""
LEFT_OUT = ("train/epoch",)
"""A straight line."""
DETAILS = {"analysis": "routes"}
"""The group of a kind's numbers without a tag of their own, if it is not called like the kind."""
KINDS = ("train", "validation", "analysis", "test")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of the first screen.

    `tags` are the tags of its numbers, by kind and name in metrics.jsonl, such as "validation/robust_gap".
    FIRST and LAST stand for the first and the last name of a dictionary, whatever it is, as in
    "validation/clean/FIRST". `also` are regular expressions of further tags in this chart.
    """

    title: str
    tags: Mapping[str, str] = field(default_factory=dict)
    also: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Charts:
    """The charts of a task, and the numbers that have none.

    A number of metrics.jsonl without a tag here has the tag KIND/NAME, the only one that may depend on norm
    and routes. Numbers of averaged weights have the tag of the model's with the name of the average at its
    end.
    """

    title: str = "training"
    shown: Sequence[Chart] = (Chart(title="loss", tags={"train/loss": "loss/total"}),)
    """The first charts of the first screen; those that all tasks have follow."""
    further: Sequence[Chart] = ()
    """Its last charts."""
    closing: Mapping[str, str] = field(default_factory=dict)
    """Tags of closing evaluations, single points for HPARAMS. It shows the first five tags in the order of
    Python, which has "accuracy test/clean" before "accuracy/clean"; TIME SERIES, which opens the first two
    groups, has it after."""
    left_out: Sequence[str] = ()
    """Patterns of numbers without a tag that are not shown, such as "test/*"."""

    def scalars(self, kind: str, values: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of a record by their tags."""
        kind, average = _kind(kind)
        numbers, table = dict(flat({kind: values})), self._tags()
        places = {number: _place(number, {kind: values}) for number in table}
        found = {
            table[number] + average: numbers[place] for number, place in places.items() if place in numbers
        }
        left_out, details = (*LEFT_OUT, *self.left_out), DETAILS.get(kind, kind) + average
        found |= {
            f"{details}/{number.removeprefix(f'{kind}/')}": value
            for number, value in numbers.items()
            if number not in table and not any(fnmatchcase(number, pattern) for pattern in left_out)
        }
        return found

    def layout(self) -> dict[str, dict[str, list[Any]]]:
        """The first screen, as `SummaryWriter.add_custom_scalars` takes it."""
        common = (Chart(title=title, tags=tags) for title, tags in COMMON.items())
        shown = [*self.shown, *common, *self.further]
        # TensorBoard takes tags as regular expressions: so averages are in the chart of the model
        return {
            self.title: {chart.title: ["Multiline", [*chart.tags.values(), *chart.also]] for chart in shown}
        }

    def _tags(self) -> dict[str, str]:
        charts = [chart.tags for chart in (*self.shown, *self.further)]
        tables = [*charts, *COMMON.values(), self.closing]
        return {number: tag for table in tables for number, tag in table.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested dictionaries, names joined by `/`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, float(value)


def _kind(kind: str) -> tuple[str, str]:
    """ "test_ema" as ("test", " ema"), "ema" as ("validation", " ema")."""
    if kind.startswith("test_"):
        return "test", f" {kind.removeprefix('test_')}"
    return (kind, "") if kind in KINDS else ("validation", f" {kind}")


def _place(number: str, values: Any) -> str:
    """The name of a number with FIRST and LAST replaced by names of the nested dictionaries `values`."""
    parts = number.split("/")
    for i, part in enumerate(parts):
        if not isinstance(values, Mapping) or not values:
            break
        parts[i] = {"FIRST": next(iter(values)), "LAST": [*values][-1]}.get(part, part)
        values = values.get(parts[i])
    return "/".join(parts)
