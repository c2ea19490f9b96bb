"""A run that has ended: what it ended with is read again, and nothing is computed."""

from dataclasses import replace

from rich.console import Console

import robustsabn.config
from robustsabn.errors import CheckpointError
from robustsabn.files import write_text
from robustsabn.trainers.checkpoints.changes import changed, changes_training, digest
from robustsabn.trainers.checkpoints.files import read, read_facts, read_newest
from robustsabn.trainers.checkpoints.resume import kept_names
from robustsabn.trainers.checkpoints.state import checked
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.loop.result import RunResult
from robustsabn.trainers.loop.task import C, M, Task
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records

__all__ = ["ended_run", "repair_config", "tell_ended"]

# of a run that has got as far as it was to
_LENGTH = ("epochs", "steps")


def ended_run(folder: RunFolder, config: C, task: type[Task[C, M]]) -> RunResult[M] | None:
    """What the run ended with; None where steps or closing evaluations are left to do, or `config` is not
    that of the run.
    """
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
    known = {kind: found for kind, found in tables.items() if found is not None}
    if len(known) < len(wanted):
        return None
    closed = {name: known[f"test_{name}"] for name in averages}
    return RunResult(
        folder=folder.path,
        steps=step,
        best_step=best,
        evaluation=known["test"],
        last=known.get("test_last"),
        averages=closed,
    )


def _is_damaged(folder: RunFolder, name: str) -> bool:
    try:
        read(folder.checkpoints, name)
    except CheckpointError:
        return True
    return False


def repair_config(folder: RunFolder, config: RunConfig) -> None:
    """Write config.yaml again where it is missing or is not that of the checkpoint."""
    signed = read_facts(folder.checkpoints, "last").get("config_file")
    text = folder.config.read_bytes() if folder.config.is_file() else b""
    if signed is not None and digest(text.decode("utf-8", "replace")) != signed:
        write_text(folder.config, robustsabn.config.dump(replace(config, out=str(folder.path))))


def tell_ended(ended: RunResult[M], task: type[Task[C, M]]) -> None:
    """Say that there is nothing to do, and show the tables again."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{ended.folder} has ended: its {ended.steps} steps and closing evaluations are done, nothing is "
        "computed; more epochs= or steps= train on",
        markup=False,
    )
    tables = {f"best checkpoint (step {ended.best_step})": ended.evaluation}
    if ended.last is not None:
        tables[f"last checkpoint (step {ended.steps})"] = ended.last
    tables |= {f"averaged weights ({name.upper()})": found for name, found in ended.averages.items()}
    for heading, found in tables.items():
        task.show_closing(found, heading, console)
