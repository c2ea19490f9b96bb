"""Checks whether a run's config.yaml was edited after its checkpoints were written."""

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

# locations, which may change after training
_PLACES = ("model", "data", "extra.data", "styles", "encoder")


def trained_with(
    folder: RunFolder,
    cls: type[RunConfig],
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The configuration that a run was trained with, as keys and values from its config.yaml.

    Raises CheckpointError if the file was edited after training in a setting that affects training. A new
    location of the model or the data only warns. `cls` is the class of the configuration; `complete` adds the
    defaults of missing keys if `cls` alone does not determine them.
    """
    written = dict(folder.written_config())
    states = []
    for name in ("last", "previous"):
        try:
            states.append(checked(read_facts(folder.checkpoints, name), folder.checkpoints / name))
        except CheckpointError:  # reported when that checkpoint is read
            continue
    if not states or "config_file" not in states[0]:  # no checkpoint yet, or one of an earlier version
        return written
    now = digest(folder.config.read_text(encoding="utf-8"))
    if now == states[0]["config_file"]:
        return written
    before: dict[str, Any] = states[0]["config"]
    if any(now == state.get("config_file") for state in states[1:]):  # killed before config.yaml was updated
        return before
    complete = complete or (lambda values: robustsabn.config.to_dict(robustsabn.config.load(cls, values)))
    moved = []
    for key, old, new in differing(complete(before), complete(written)):
        if key in _PLACES:
            moved.append(f"{key} is {new}, it was {old}")
        elif changes_training(cls, key):
            raise CheckpointError(
                f"{folder.config} was edited after training: {key} is {new}, the checkpoint was trained with "
                f"{old}; restore it, or continue training with it: robustsabn train {folder.config} --resume"
            )
    if moved:
        warnings.warn(f"{folder.config} was edited after training: {'; '.join(moved)}", stacklevel=4)
    return written
