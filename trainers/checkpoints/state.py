"""Checks of the state in a checkpoint, which may come from elsewhere."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustsabn.errors import CheckpointError
from robustsabn.state_versions import load_state
from robustsabn.text import quote

__all__ = ["check_images", "check_state", "checked", "fill", "images_of", "is_whole"]


def is_whole(value: Any, least: int = 0) -> bool:
    """Whether `value` is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _score(value: Any) -> bool:
    if not isinstance(value, dict) or not is_whole(value.get("step"), -1):
        return False
    score = value.get("score")
    return isinstance(score, list) and all(isinstance(part, (int, float)) for part in score)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


_NEEDED: dict[str, Callable[[Any], bool]] = {
    "step": is_whole,
    "epoch": lambda value: isinstance(value, (int, float)) and value >= 0,
    "best": _score,
    "config": _mapping,
}
# only in newer versions or in some runs
_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "ema": _score,
    "swa": _score,
    "averages": _mapping,
    "scaler": lambda value: value is None or isinstance(value, dict),
}


def checked(state: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return `state`; raise CheckpointError, which names `file`, if it is not the state of a run."""
    check_state(state, file, _NEEDED)
    check_state(state, file, {key: valid for key, valid in _ALLOWED.items() if key in state})
    check_state(state, file, {name: _score for name in state.get("averages", {}) if name in state})
    return state


def check_state(state: dict[str, Any], file: Path, needed: Mapping[str, Callable[[Any], bool]]) -> None:
    """Raise CheckpointError, which names `file`, unless all `needed` entries exist and are valid."""
    for key, valid in needed.items():
        if not valid(state.get(key)):
            value = "missing" if key not in state else quote(state[key])
            raise CheckpointError(
                f"{file} is not the state of a run: {key} is {value}; restore it from a copy"
            )


def check_images(state: dict[str, Any], file: Path) -> None:
    """Raise CheckpointError, which names `file`, unless `state` has the classes and the image shape."""
    check_state(state, file, {"classes": _names, "shape": _shape})


def images_of(state: dict[str, Any], file: Path) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """The classes and the image shape (C, H, W) that a network was trained on. Raises as `check_images`."""
    check_images(state, file)
    channels, height, width = state["shape"]
    return tuple(state["classes"]), (channels, height, width)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load the tensors of a checkpoint into `model`.

    Raises CheckpointError, which starts with `what`, if they do not fit.
    """
    try:
        load_state(model, tensors)
    except Exception as error:  # modules of the user may raise anything
        raise CheckpointError(
            f"{what} of its config.yaml; has the model's code changed since, or the file been edited?"
        ) from error


def _shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(is_whole(size, 1) for size in value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)
