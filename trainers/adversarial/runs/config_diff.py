"""What tells runs apart: their settings, and of these the ones in which they differ."""

from collections.abc import Iterator, Sequence
from typing import Any

import robustsabn.config
from robustsabn.report.numbers import eps_text
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation

__all__ = ["differences", "settings", "value_text", "words"]

# these change nothing that is trained; how it was tested, the evaluation says
_ASIDE = ("seed", "out", "device", "download", "log_every", "checkpoint_every", "test")

_ABSENT = object()


def settings(config: TrainConfig, evaluation: Evaluation) -> dict[str, Any]:
    """What makes a run what it is, whatever its seed, by dotted key; `method` and its like are their names."""
    kept = {key: value for key, value in robustsabn.config.to_dict(config).items() if key not in _ASIDE}
    return {**dict(_flat(kept)), "test.attack": evaluation.attack, "test.images": evaluation.n}


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
