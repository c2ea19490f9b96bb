"""Results of a run that has already ended, read from its files without computing anything."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import robustsabn.config
from robustsabn.errors import CheckpointError
from robustsabn.files import write_text
from robustsabn.report.following import following
from robustsabn.trainers.checkpoints.changes import changed, changes_training, digest
from robustsabn.trainers.checkpoints.files import read, read_facts, read_newest
from robustsabn.trainers.checkpoints.resume import kept_names
from robustsabn.trainers.checkpoints.state import checked
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.loop.result import RunResult
from robustsabn.trainers.loop.task import C, M, Task
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records

__all__ = ["ended_run", "last_lines", "print_ended", "repair_config"]

# these may differ once the run has reached its last step
_LENGTH = ("epochs", "steps")


def ended_run(folder: RunFolder, config: C, task: type[Task[C, M]]) -> RunResult[M] | None:
    """The result of a finished run, or None if steps or evaluations remain or `config` differs."""
    try:
        stored, damage = read_newest(folder.checkpoints)
        state = checked(stored.state, folder.checkpoints)
    except CheckpointError:
        return None
    step, epoch, best = state["step"], state["epoch"], state["best"]["step"]
    total = config.steps or config.epochs * round(step / epoch if epoch else 0)
    keys = [key for key, _, _ in changed(state["config"], config) if key not in _LENGTH]
    if damage or step < total or any(changes_training(config, key) for key in keys):
        return None
    if any(_is_damaged(folder, name) for name in kept_names(stored)):
        return None
    before = robustsabn.config.load(type(config), state["config"])
    records = list(read_records(folder.metrics))
    averages = [name for name in kept_names(stored) if name != "best"]
    wanted = ["test", *["test_last"] * (best < step), *(f"test_{name}" for name in averages)]
    tables = {kind: task.read_closing(records, kind, before, config) for kind in wanted}
    evaluations = {kind: measured for kind, measured in tables.items() if measured is not None}
    if len(evaluations) < len(wanted):
        return None
    closed = {name: evaluations[f"test_{name}"] for name in averages}
    return RunResult(
        folder=folder.path,
        steps=step,
        best_step=best,
        evaluation=evaluations["test"],
        last=evaluations.get("test_last"),
        averages=closed,
    )


def _is_damaged(folder: RunFolder, name: str) -> bool:
    try:
        read(folder.checkpoints, name)
    except CheckpointError:
        return True
    return False


def repair_config(folder: RunFolder, config: RunConfig) -> None:
    """Rewrite config.yaml if it is missing or does not belong to the checkpoint."""
    signed = read_facts(folder.checkpoints, "last").get("config_file")
    text = folder.config.read_bytes() if folder.config.is_file() else b""
    if signed is not None and digest(text.decode("utf-8", "replace")) != signed:
        write_text(folder.config, robustsabn.config.dump(replace(config, out=str(folder.path))))


def print_ended(ended: RunResult[M], task: type[Task[C, M]]) -> None:
    """Print that nothing is left to do, and the tables of the run again."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{ended.folder} has ended: its {ended.steps} steps and closing evaluations are done, nothing is "
        "computed; raise epochs= or steps= to train on",
        markup=False,
    )
    tables = {f"best checkpoint (step {ended.best_step})": ended.evaluation}
    if ended.last is not None:
        tables[f"last checkpoint (step {ended.steps})"] = ended.last
    tables |= {f"averaged weights ({name.upper()})": measured for name, measured in ended.averages.items()}
    for heading, measured in tables.items():
        task.show_closing(measured, heading, console)
    for line in last_lines(ended.folder, task.following):
        console.print(line, markup=False)


def last_lines(folder: Path, command: Sequence[str]) -> list[str]:
    """Where the result of a run is, and what may be typed next; RUN in `command` is its folder."""
    words = [str(folder) if word == "RUN" else word for word in command]
    return [f"the run is in {folder}", following(*words)]
