"""Differences between two configurations of a run, and which of them affect training."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import robustsabn.config
from robustsabn.trainers.config import RunConfig, resume_rule

__all__ = ["changed", "changes_training", "differing", "digest", "with_free_settings"]

C = TypeVar("C", bound=RunConfig)


def digest(text: str) -> str:
    """SHA-256 of the text of a config.yaml, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def changed(before: Mapping[str, Any], now: RunConfig) -> list[tuple[str, Any, Any]]:
    """The dotted keys in which `now` differs from the configuration of a checkpoint, with both values."""
    # loading adds defaults of keys that did not exist when the run began
    known = robustsabn.config.to_dict(robustsabn.config.load(type(now), before))
    return list(differing(known, robustsabn.config.to_dict(now)))


def differing(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two configurations (plain dictionaries) differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from differing(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def with_free_settings(before: Mapping[str, Any], now: C) -> C:
    """The configuration `before` of a checkpoint, with the settings of `now` that do not affect training."""
    known = robustsabn.config.load(type(now), before)
    free = {
        field.name: getattr(now, field.name)
        for field in fields(now)
        if resume_rule(now, field.name) == "free"
    }
    return replace(known, **free)


def changes_training(config: RunConfig | type[RunConfig], key: str) -> bool:
    """Whether a change of the dotted `key` would affect training after a checkpoint."""
    return resume_rule(config, key) not in ("free", "at start")
