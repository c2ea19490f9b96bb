"""What the state of a run's checkpoint has to hold: files come from elsewhere, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustsabn.errors import CheckpointError
from robustsabn.text import quote

__all__ = ["checked"]


def _whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_whole(size, 1) for size in value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _score(value: Any) -> bool:
    if not isinstance(value, dict) or not _whole(value.get("step"), -1):
        return False
    score = value.get("score")
    return (
        isinstance(score, list) and len(score) == 2 and all(isinstance(part, (int, float)) for part in score)
    )


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


_NEEDED: dict[str, Callable[[Any], bool]] = {
    "step": _whole,
    "epoch": lambda value: isinstance(value, (int, float)) and value >= 0,
    "best": _score,
    "classes": _names,
    "shape": _shape,
    "config": _mapping,
}
# of younger versions, or of some runs
_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "ema": _score,
    "swa": _score,
    "averages": _mapping,
    "scaler": lambda value: value is None or isinstance(value, dict),
}


def checked(state: dict[str, Any], file: Path) -> dict[str, Any]:
    """`state`; CheckpointError, which names `file`, where it is not the state of a run."""
    for key, fine in {**_NEEDED, **_ALLOWED}.items():
        if (key in state or key in _NEEDED) and not fine(state.get(key)):
            given = "missing" if key not in state else quote(state[key])
            raise CheckpointError(
                f"{file} is not the state of a run: {key} is {given}; restore it from a copy"
            )
    return state
