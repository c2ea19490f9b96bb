"""Going on with a run: which checkpoint, and whether the configuration is still that of the run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import robustsabn.config
from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.text import quote
from robustsabn.trainers.checkpoint import Checkpoint, read, read_newest
from robustsabn.trainers.config import TrainConfig
from robustsabn.trainers.records import read_records, robust_course
from robustsabn.trainers.runs import RunFolder

__all__ = ["KEPT", "Found", "carries_over", "compare", "find"]

# checkpoints that are kept for their validation accuracy
KEPT = ("best", "ema", "swa")

# other values of these fit no stored tensor
_SHAPING = ("model", "model_options", "norm", "routes", "optim.name", "optim.decay")
# these change nothing that is trained
_FREE = ("out", "device", "download", "log_every", "checkpoint_every", "test", "weights", "fresh_head")


@dataclass(frozen=True)
class Found:
    """The checkpoint to go on from, and a line on each that is damaged, by its name."""

    stored: Checkpoint
    damaged: dict[str, str]


def find(folder: RunFolder) -> Found | None:
    """Which checkpoint to go on from, None for a run that ended before its first; CheckpointError where none is sound."""
    if not folder.checkpoints.is_dir():
        if folder.metrics.exists() and not robust_course(list(read_records(folder.metrics))):
            return None
        raise CheckpointError(f"{folder.path} holds no checkpoint to resume from; start it without --resume")
    stored, damage = read_newest(folder.checkpoints)
    damaged = {"last": f"{damage}; resuming from the checkpoint before it"} if damage else {}
    for name in KEPT:
        if stored.state.get(name, {"step": -1})["step"] >= 0:
            try:
                read(folder.checkpoints, name)
            except CheckpointError as error:
                damaged[name] = f"{error}; the best of the steps to come takes its place"
    return Found(stored, damaged)


def carries_over(stored: Checkpoint, batch_size: int, shape: tuple[int, ...]) -> bool:
    """Whether the method kept something for each image of a batch, and batches are still of that shape."""
    tensors = stored.tensors.get("method", {}).values()
    fits = all(len(value) == batch_size for value in tensors) and stored.state["shape"] == list(shape)
    return bool(tensors) and fits


def compare(folder: RunFolder, stored: Checkpoint, config: TrainConfig, shape: tuple[int, ...]) -> list[str]:
    """What differs between the run so far and `config`, on images of `shape` (C, H, W), one line for the reader.

    Raises ConfigError where the network or the optimiser would be another one.
    """
    # through the dataclass: keys that are younger than the run have their defaults
    before = robustsabn.config.to_dict(robustsabn.config.load(TrainConfig, stored.state["config"]))
    now = robustsabn.config.to_dict(config)
    changes = []
    for key, old, new in _differences(before, now):
        if key.startswith(_SHAPING):
            raise ConfigError(
                f"{key} is {quote(new)}, the run in {folder.path} has {quote(old)}; "
                f"resume it with its own configuration, {folder.config}"
            )
        if not key.startswith(_FREE):
            changes.append(f"{key} {old} -> {new}")
    if not changes:
        return []
    lost = "method" in stored.tensors and not carries_over(stored, config.batch_size, shape)
    words = "; what the method carried from batch to batch begins anew" if lost else ""
    return [f"resuming with other settings: {', '.join(changes)}{words}"]


def _differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now
