"""Resuming a run: which checkpoint is used, and whether the configuration still fits it."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.text import quote
from robustsabn.trainers.checkpoints.changes import changed, changes_training
from robustsabn.trainers.checkpoints.files import Checkpoint, read, read_newest
from robustsabn.trainers.checkpoints.state import checked
from robustsabn.trainers.config import RunConfig, resume_rule
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records

__all__ = ["ResumePoint", "config_changes", "find_checkpoint", "kept_names"]

# changes of these are not reported
_UNTOLD = ("out", "download")


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint to resume from, and a message for each damaged one, by its name."""

    stored: Checkpoint
    damaged: dict[str, str]


def find_checkpoint(folder: RunFolder) -> ResumePoint | None:
    """The checkpoint to resume from, or None if the run ended before its first one.

    Raises CheckpointError if none is intact.
    """
    if not any((folder.checkpoints / name).is_dir() for name in ("last", "previous")):
        _check_nothing_lost(folder)
        return None
    try:
        stored, damage = read_newest(folder.checkpoints)
    except CheckpointError as error:
        begin = "" if "out=" in str(error) else ", or start a new run with out="
        raise CheckpointError(f"{error}{begin}") from error
    checked(stored.state, folder.checkpoints)
    damaged = {"last": f"{damage}; resuming from the checkpoint before it"} if damage else {}
    for name in kept_names(stored):
        try:
            read(folder.checkpoints, name)
        except CheckpointError as error:
            damaged[name] = f"{error}; the best of the following steps replaces it"
    return ResumePoint(stored, damaged)


def kept_names(stored: Checkpoint) -> list[str]:
    """The checkpoints that the run had kept for their score."""
    state = stored.state
    return [name for name in ("best", *state.get("averages", {})) if state.get(name, {}).get("step", -1) >= 0]


def _check_nothing_lost(folder: RunFolder) -> None:
    """Raise CheckpointError if the run had a complete checkpoint that is now missing.

    A run killed during its first checkpoint may have written `best` but not `last`.
    """
    records = list(read_records(folder.metrics))
    saved = [record["step"] for record in records if record["kind"] == "validation"]
    for name in _scored(folder):
        with contextlib.suppress(CheckpointError):
            saved.append(read(folder.checkpoints, name).state["step"])
    first = min(saved, default=math.inf)
    if any(record["step"] > first or record["kind"].startswith("test") for record in records):
        raise CheckpointError(
            f"{folder.checkpoints} has no checkpoint to resume from, but the run reached step "
            f"{records[-1]['step']}; restore last from a copy, or start again with another out="
        )


def _scored(folder: RunFolder) -> Iterator[str]:
    """The checkpoints in a folder, without damaged ones."""
    for place in folder.checkpoints.glob("[!.]*"):
        if place.is_dir() and not place.name.startswith("damaged-"):
            yield place.name


def config_changes(folder: RunFolder, stored: Checkpoint, config: RunConfig) -> list[str]:
    """Lines for the user about the differences between the run so far and `config`.

    Raises ConfigError if the stored tensors would not fit: another network or another optimiser.
    """
    changes, lines = [], []
    for key, old, new in changed(stored.state["config"], config):
        if resume_rule(config, key) == "fixed":
            raise ConfigError(
                f"{key} is {quote(new)}, the run in {folder.path} has {quote(old)}; "
                f"resume it with its own configuration, {folder.config}"
            )
        if changes_training(config, key):
            changes.append(f"{key} {old} -> {new}")
        elif key == "weights":
            lines.append("weights are those of the run; the file in the configuration is not read again")
        elif key not in _UNTOLD:
            lines.append(f"from now on: {key} {old} -> {new}")
    if changes:
        lines.insert(0, f"resuming with other settings: {', '.join(changes)}")
    return lines
