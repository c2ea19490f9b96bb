"""The settings of runs, the differences between them, and those from the defaults."""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import robustsabn.config
from robustsabn.report.numbers import eps_text
from robustsabn.trainers.checkpoints.changes import differing
from robustsabn.trainers.config import RunConfig, resume_rule

__all__ = ["departures", "differences", "settings", "value_text", "words"]

_ABSENT = object()


def settings(config: RunConfig) -> dict[str, Any]:
    """The settings that affect training, without the seed, by dotted key.

    Choices such as `method` are given by their names. Settings of evaluation are left out, because the
    evaluation itself states them.
    """
    whole = robustsabn.config.to_dict(config)
    kept = {
        key: value for key, value in whole.items() if key != "seed" and resume_rule(config, key) != "free"
    }
    return dict(_flat(kept))


def differences(several: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each of several settings, those entries in which they differ from each other.

    A key that belongs to one method, optimiser or schedule is compared only among the settings that have it.
    """
    keys = dict.fromkeys(key for each in several for key in each)
    differing = [key for key in keys if _differs(key, several)]
    return [{key: each[key] for key in differing if key in each} for each in several]


def departures(config: RunConfig) -> list[tuple[str, Any, Any]]:
    """The dotted keys in which `config` differs from the defaults: (key, value, default), without `out`.

    The options of a method, optimiser or schedule are compared with the defaults of that one.
    """
    required = [f.name for f in fields(config) if f.default is MISSING and f.default_factory is MISSING]
    own = robustsabn.config.to_dict(config)
    plain = robustsabn.config.to_dict(type(config)(**{name: getattr(config, name) for name in required}))
    for field in fields(config):
        chosen = own[field.name]
        if isinstance(chosen, dict) and is_dataclass(value := getattr(config, field.name)):
            if plain[field.name] is None:
                plain[field.name] = {}
            elif "name" in chosen and chosen["name"] != plain[field.name].get("name"):
                plain[field.name] = {"name": plain[field.name].get("name"), **_defaults(value)}
    found = ((key, value, default) for key, default, value in differing(plain, own) if key != "out")
    return [(key.removesuffix(".name"), value, default) for key, value, default in found]


def _defaults(value: Any) -> dict[str, Any]:
    try:
        return robustsabn.config.to_dict(type(value)())
    except TypeError:  # a field without a default, in a class of the user
        return {}


def words(chosen: dict[str, Any]) -> str:
    """Settings written as overrides, such as `norm=bn method=trades`."""
    return " ".join(f"{key}={value_text(key, value)}" for key, value in chosen.items())


def value_text(key: str, value: Any) -> str:
    """The value of `key` written as in an override."""
    if isinstance(value, float):
        return eps_text(value) if key.endswith(("eps", "step_size")) else f"{value:g}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _differs(key: str, several: Sequence[dict[str, Any]]) -> bool:
    choice = key.rpartition(".")[0]
    values = [each.get(key, _ABSENT) for each in several if key in each or each.get(choice) is None]
    return any(value != values[0] for value in values)


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix.removesuffix(".") if key == "name" else prefix + key, value
