"""Settings with several values, such as attack.eps=2/255,4/255: every combination is trained."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustsabn.config.loader import Overrides, listed
from robustsabn.errors import ConfigError
from robustsabn.text import shorten
from robustsabn.trainers.tasks import Config, load_config

__all__ = ["Point", "points"]

MOST = 1000
"""Most combinations; more are a typing error."""

Entry = tuple[str, Any, bool]
"""Key, value, and whether it is text of the command line."""


@dataclass(frozen=True)
class Point:
    """One combination: its overrides, and the settings that distinguish it, by key."""

    overrides: list[str | Mapping[str, Any]]
    chosen: dict[str, str]

    @property
    def folder(self) -> str:
        """The name of its folder, such as "attack.eps=2-255,norm=sabn"; "" if there is one point."""
        return ",".join(f"{key}={value.replace('/', '-')}" for key, value in self.chosen.items())

    @property
    def words(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.chosen.items())


def points(config: Config, overrides: Overrides) -> list[Point]:
    """Every combination of the values in `overrides`; one point if each key has one value.

    A value with commas, or a list, stands for several values unless its key takes it as it is, as
    schedule.milestones=0.5,0.75 and data=imagefolder:PATH,size=64 do. Raises ConfigError for more than `MOST`
    combinations, and for a value that is written twice.
    """
    entries = [entry for one in listed(overrides) for entry in _entries(one)]
    several = {place: values for place, entry in enumerate(entries) if len(values := _values(entry)) > 1}
    swept = {place: values for place, values in several.items() if not _fits(config, entries, several, place)}
    keys = [entries[place][0] for place in swept]
    for key, values in zip(keys, swept.values(), strict=True):
        if len({_word(value) for value in values}) < len(values):
            raise ConfigError(f"{key} has a value twice: {shorten(', '.join(map(_word, values)))}")
    combinations = list(itertools.islice(itertools.product(*swept.values()), MOST + 1))
    if len(combinations) > MOST:
        raise ConfigError(f"{', '.join(keys)} have more than {MOST} combinations; give fewer values")
    return [_point(entries, dict(zip(swept, combination, strict=True))) for combination in combinations]


def _entries(one: str | Mapping[str, Any]) -> list[Entry]:
    if isinstance(one, Mapping):
        return [(str(key), value, False) for key, value in one.items()]
    key, equals, value = str(one).partition("=")
    return [(key, value if equals else None, True)]


def _values(entry: Entry) -> list[Any]:
    _, value, text = entry
    if text and isinstance(value, str) and not set("[]{}'\"") & set(value):
        return [part.strip() for part in value.split(",")]
    return list(value) if isinstance(value, (list, tuple)) and not text else [value]


def _fits(config: Config, entries: list[Entry], several: Mapping[int, list[Any]], place: int) -> bool:
    """Whether the key takes the whole value; of the other keys one value each is tried."""
    first = {other: values[0] for other, values in several.items() if other != place}
    try:
        load_config(config, _point(entries, first).overrides)
    except ConfigError:
        return False
    return True


def _point(entries: list[Entry], chosen: Mapping[int, Any]) -> Point:
    overrides: list[str | Mapping[str, Any]] = []
    for place, (key, value, text) in enumerate(entries):
        own = chosen.get(place, value)
        overrides.append((key if own is None else f"{key}={own}") if text else {key: own})
    return Point(overrides, {entries[place][0]: _word(value) for place, value in chosen.items()})


def _word(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
