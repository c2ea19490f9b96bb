"""In what two configurations of a run differ, and which differences change nothing that is trained."""

from collections.abc import Iterator, Mapping
from typing import Any

import robustsabn.config
from robustsabn.trainers.config import TrainConfig

__all__ = ["FREE", "changed", "differing"]

FREE = ("test", "device", "log_every", "checkpoint_every", "weights", "fresh_head", "out", "download")
"""Beginnings of the keys that change nothing that is trained from a checkpoint on."""


def changed(before: Mapping[str, Any], now: TrainConfig) -> list[tuple[str, Any, Any]]:
    """The dotted keys in which a configuration differs from what a checkpoint was written with, and both values."""
    # through the dataclass: keys that are younger than the run have their defaults
    known = robustsabn.config.to_dict(robustsabn.config.load(TrainConfig, before))
    return list(differing(known, robustsabn.config.to_dict(now)))


def differing(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two plain configurations differ, and both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from differing(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now
