"""Reads finished runs of any task from their folders and compares them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.text import quote
from robustsabn.trainers.loop.task import Task
from robustsabn.trainers.runs.comparison import Comparison, compared, read_ended
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.results import EndedRun
from robustsabn.trainers.tasks import read_run

__all__ = ["Comparison", "compare"]


def compare(runs: Sequence[str | Path]) -> Comparison:
    """Compare the final evaluations of runs, given as run folders or as folders of run folders.

    Runs that differ only in the seed form a group, with mean and sample deviation of each number. Accuracies
    are in [0, 1]. Runs that cannot be read or are not finished are skipped, with a line in `skipped`. Raises
    CheckpointError if no run is left, and if runs are of several tasks.

    Example, after that of `train`:

        >>> from robustsabn.trainers import compare
        >>> (group,) = compare(["runs/tiny"]).groups
        >>> spread = group.spread("clean_accuracy")
        >>> spread.n, 0 <= spread.mean <= 1
        (1, True)
    """
    if isinstance(runs, (str, bytes)) or not isinstance(runs, Sequence):
        raise CheckpointError(f"runs are {quote(runs)}; give a list of run folders")
    ended: list[EndedRun[Any]] = []
    tasks: dict[str, tuple[RunFolder, type[Task[Any, Any]]]] = {}
    skipped = []
    for folder in _folders(runs):
        try:
            config, task = read_run(folder)
            ended.append(read_ended(folder, config, task.results))
            tasks.setdefault(config.task, (folder, task))
        except (CheckpointError, ConfigError) as error:
            skipped.append(str(error))
    if not ended:
        more = f" (and {len(skipped) - 1} more that cannot be compared)" if len(skipped) > 1 else ""
        raise CheckpointError((skipped or ["no run is given; name run folders"])[0] + more)
    if len(tasks) > 1:
        which = ", ".join(f"{folder.path} is of {quote(name)}" for name, (folder, _) in tasks.items())
        raise CheckpointError(f"runs of different tasks cannot be compared: {which}; give runs of one task")
    ((_, task),) = tasks.values()
    return compared(ended, task.results, skipped)


def _folders(paths: Sequence[str | Path]) -> list[RunFolder]:
    """The run folders among `paths` and inside them, each once; a folder without runs is kept as it is."""
    folders: dict[Path, RunFolder] = {}
    for place in (RunFolder(one).path for one in paths):
        inside = [place]
        if not RunFolder(place).config.is_file():
            configs = [*place.glob("*/config.yaml"), *place.glob("*/*/config.yaml")]
            inside = sorted((file.parent for file in configs), key=_natural) or [place]
        for folder in inside:
            folders.setdefault(folder.resolve(), RunFolder(folder))
    return list(folders.values())


def _natural(path: Path) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
