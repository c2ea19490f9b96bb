"""What tells runs apart: their settings, and of these the ones in which they differ."""

from collections.abc import Iterator, Sequence
from typing import Any

import robustsabn.config
from robustsabn.report.numbers import eps_text
from robustsabn.trainers.config import RunConfig, resume_rule

__all__ = ["differences", "settings", "value_text", "words"]

_ABSENT = object()


def settings(config: RunConfig) -> dict[str, Any]:
    """What makes a run what it is, whatever its seed, by dotted key; `method` and its like are their names.

    What changes nothing that is trained is left out: how it was tested, the evaluation says.
    """
    whole = robustsabn.config.to_dict(config)
    kept = {
        key: value for key, value in whole.items() if key != "seed" and resume_rule(config, key) != "free"
    }
    return dict(_flat(kept))


def differences(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each of these settings the ones in which they differ from each other.

    A key of one method, optimiser or schedule that others lack counts where those that have it differ.
    """
    keys = dict.fromkeys(key for each in found for key in each)
    differing = [key for key in keys if _differs(key, found)]
    return [{key: each[key] for key in differing if key in each} for each in found]


def words(chosen: dict[str, Any]) -> str:
    """Settings as overrides are written: `norm=bn method=trades`."""
    return " ".join(f"{key}={value_text(key, value)}" for key, value in chosen.items())


def value_text(key: str, value: Any) -> str:
    """The value of `key` as it may be written in an override."""
    if isinstance(value, float):
        return eps_text(value) if key.endswith(("eps", "step_size")) else f"{value:g}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _differs(key: str, found: Sequence[dict[str, Any]]) -> bool:
    choice = key.rpartition(".")[0]
    values = [each.get(key, _ABSENT) for each in found if key in each or each.get(choice) is None]
    return any(value != values[0] for value in values)


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix.removesuffix(".") if key == "name" else prefix + key, value
