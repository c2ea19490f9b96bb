"""In what two configurations of a run differ, and which differences change nothing that is trained."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import robustsabn.config
from robustsabn.trainers.config import RunConfig, resume_rule

__all__ = ["changed", "changes_training", "differing", "digest", "with_free_settings"]

C = TypeVar("C", bound=RunConfig)


def digest(text: str) -> str:
    """A name for the exact text of a config.yaml."""
    return hashlib.sha256(text.encode()).hexdigest()


def changed(before: Mapping[str, Any], now: RunConfig) -> list[tuple[str, Any, Any]]:
    """The dotted keys in which a configuration differs from what a checkpoint was written with, and both
    values.
    """
    # through the dataclass: keys that are younger than the run have their defaults
    known = robustsabn.config.to_dict(robustsabn.config.load(type(now), before))
    return list(differing(known, robustsabn.config.to_dict(now)))


def differing(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two plain configurations differ, and both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from differing(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def with_free_settings(before: Mapping[str, Any], now: C) -> C:
    """The configuration `before` of a checkpoint with those settings of `now` that change nothing that is
    trained.
    """
    known = robustsabn.config.load(type(now), before)
    free = {
        field.name: getattr(now, field.name)
        for field in fields(now)
        if resume_rule(now, field.name) == "free"
    }
    return replace(known, **free)


def changes_training(config: RunConfig | type[RunConfig], key: str) -> bool:
    """Whether another value of the dotted `key` would train something else from a checkpoint on."""
    return resume_rule(config, key) not in ("free", "at start")
