"""Whether a run's config.yaml is still the one that its checkpoints were written with."""

import warnings
from collections.abc import Callable
from typing import Any

import robustsabn.config
from robustsabn.errors import CheckpointError
from robustsabn.trainers.checkpoints.changes import changes_training, differing, digest
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.checkpoints.state import checked
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.runs.folder import RunFolder

__all__ = ["trained_with"]

# where things lie: these may move after training
_PLACES = ("model", "data", "extra.data")


def trained_with(
    folder: RunFolder,
    cls: type[RunConfig],
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The keys and values of a run's configuration, of the class `cls`, as its config.yaml has them.

    Raises CheckpointError where that was edited since and would have the numbers be those of another
    training. Another place of the model or the data is a warning. `complete` adds the defaults of keys that
    are missing, where `cls` alone does not tell them.
    """
    given = dict(folder.written_config())
    signed = []
    for name in ("last", "previous"):
        try:
            signed.append(checked(read_facts(folder.checkpoints, name), folder.checkpoints / name))
        except CheckpointError:  # whoever needs it will say so
            continue
    if not signed or "config_file" not in signed[0]:  # not yet, or by an earlier version
        return given
    now = digest(folder.config.read_text(encoding="utf-8"))
    if now == signed[0]["config_file"]:
        return given
    before: dict[str, Any] = signed[0]["config"]
    if any(now == state.get("config_file") for state in signed[1:]):  # killed before the file followed
        return before
    complete = complete or (lambda values: robustsabn.config.to_dict(robustsabn.config.load(cls, values)))
    moved = []
    for key, old, new in differing(complete(before), complete(given)):
        if key in _PLACES:
            moved.append(f"{key} is {new}, it was {old}")
        elif changes_training(cls, key):
            raise CheckpointError(
                f"{folder.config} was edited after training: {key} is {new}, the checkpoint was trained with "
                f"{old}; put it back, or train on with it: robustsabn train {folder.config} --resume"
            )
    if moved:
        warnings.warn(f"{folder.config} was edited after training: {'; '.join(moved)}", stacklevel=4)
    return given
