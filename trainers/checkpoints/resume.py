"""Going on with a run: which checkpoint, and whether the configuration is still that of the run."""

import contextlib
import math
from dataclasses import dataclass

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.text import quote
from robustsabn.trainers.checkpoints.changes import FREE, changed
from robustsabn.trainers.checkpoints.files import Checkpoint, read, read_newest
from robustsabn.trainers.config import TrainConfig
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records
from robustsabn.trainers.checkpoints.state import checked

__all__ = ["KEPT", "Found", "carries_over", "compare", "find"]

# checkpoints that are kept for their validation accuracy
KEPT = ("best", "ema", "swa")

# other values of these fit no stored tensor
_SHAPING = ("model", "model_options", "norm", "routes", "optim.name", "optim.decay")
# nothing to tell about these
_UNTOLD = ("out", "download")


@dataclass(frozen=True)
class Found:
    """The checkpoint to go on from, and a line on each that is damaged, by its name."""

    stored: Checkpoint
    damaged: dict[str, str]


def find(folder: RunFolder) -> Found | None:
    """Which checkpoint to go on from, None for a run that ended before its first; CheckpointError where none is sound."""
    if not any((folder.checkpoints / name).is_dir() for name in ("last", "previous")):
        _check_nothing_lost(folder)
        return None
    stored, damage = read_newest(folder.checkpoints)
    checked(stored.state, folder.checkpoints)
    damaged = {"last": f"{damage}; resuming from the checkpoint before it"} if damage else {}
    for name in KEPT:
        if stored.state.get(name, {"step": -1})["step"] >= 0:
            try:
                read(folder.checkpoints, name)
            except CheckpointError as error:
                damaged[name] = f"{error}; the best of the steps to come takes its place"
    return Found(stored, damaged)


def _check_nothing_lost(folder: RunFolder) -> None:
    """CheckpointError where a run went on after its first checkpoint: what it would resume from was there, and is gone.

    One that is killed in the middle of its first checkpoint may have written `best`, and not yet `last`.
    """
    records = list(read_records(folder.metrics))
    saved = [record["step"] for record in records if record["kind"] == "validation"]
    for name in KEPT:
        with contextlib.suppress(CheckpointError):
            saved.append(read(folder.checkpoints, name).state["step"])
    first = min(saved, default=math.inf)
    if any(record["step"] > first or record["kind"].startswith("test") for record in records):
        raise CheckpointError(
            f"{folder.checkpoints} holds no checkpoint to resume from, and the run got to step {records[-1]['step']}; "
            "restore last from a copy, or start again with another out="
        )


def carries_over(stored: Checkpoint, batch_size: int, shape: tuple[int, ...]) -> bool:
    """Whether the method kept something for each image of a batch, and batches are still of that shape."""
    tensors = stored.tensors.get("method", {}).values()
    fits = all(len(value) == batch_size for value in tensors) and stored.state["shape"] == list(shape)
    return bool(tensors) and fits


def compare(folder: RunFolder, stored: Checkpoint, config: TrainConfig, shape: tuple[int, ...]) -> list[str]:
    """What differs between the run so far and `config`, on images of `shape` (C, H, W), lines for the reader.

    Raises ConfigError where the network or the optimiser would be another one.
    """
    changes, lines = [], []
    for key, old, new in changed(stored.state["config"], config):
        if key.startswith(_SHAPING):
            raise ConfigError(
                f"{key} is {quote(new)}, the run in {folder.path} has {quote(old)}; "
                f"resume it with its own configuration, {folder.config}"
            )
        if not key.startswith(FREE):
            changes.append(f"{key} {old} -> {new}")
        elif key == "weights":
            lines.append("weights are those of the run; what the configuration names is not read again")
        elif key not in _UNTOLD:
            lines.append(f"from now on: {key} {old} -> {new}")
    if changes:
        lost = "method" in stored.tensors and not carries_over(stored, config.batch_size, shape)
        words = "; what the method carried from batch to batch begins anew" if lost else ""
        lines.insert(0, f"resuming with other settings: {', '.join(changes)}{words}")
    return lines
