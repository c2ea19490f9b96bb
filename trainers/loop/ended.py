"""A run that has ended: what it ended with is read again, and nothing is computed."""

from typing import Any

from rich.console import Console

from robustsabn.errors import CheckpointError
from robustsabn.trainers.checkpoints.changes import FREE, changed
from robustsabn.trainers.checkpoints.files import read_newest
from robustsabn.trainers.config import TrainConfig
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.monitor import results_table
from robustsabn.trainers.runs.metrics import AVERAGES, Record, closing, read_records
from robustsabn.trainers.loop.result import RunResult
from robustsabn.trainers.checkpoints.state import checked
from robustsabn.trainers.adversarial.models import load_run_config

__all__ = ["ended_run", "tell_ended"]

# of a run that has got as far as it was to
_LENGTH = ("epochs", "steps")


def ended_run(folder: RunFolder, config: TrainConfig) -> RunResult | None:
    """What the run ended with; None where steps or closing evaluations are left to do, or `config` is not that of the run."""
    try:
        stored, damage = read_newest(folder.checkpoints)
        checked(stored.state, folder.checkpoints)
    except CheckpointError:
        return None
    step, epoch = stored.state["step"], stored.state["epoch"]
    total = config.steps or config.epochs * round(step / epoch if epoch else 0)
    keys = [key for key, _, _ in changed(stored.state["config"], config)]
    if damage or step < total or any(not key.startswith((*FREE, *_LENGTH)) for key in keys):
        return None
    records = list(read_records(folder.metrics))
    best = stored.state["best"]["step"]
    wanted = ["test"] + ["test_last"] * (best < step)
    wanted += [f"test_{name}" for name in AVERAGES if stored.state.get(name, {"step": -1})["step"] >= 0]
    tables = {kind: table for kind in wanted if (table := closing(records, kind)) is not None}
    if len(tables) < len(wanted) or not _as_asked(records, folder, config):
        return None
    averages = {name: tables[f"test_{name}"] for name in AVERAGES if f"test_{name}" in tables}
    return RunResult(folder.path, step, best, tables["test"], tables.get("test_last"), averages)


def tell_ended(ended: RunResult) -> None:
    """Say that there is nothing to do, and show the tables again."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{ended.folder} has ended: its {ended.steps} steps and closing evaluations are done, nothing is computed; "
        "more epochs= or steps= train on",
        markup=False,
    )
    tables = {f"best checkpoint (step {ended.best_step})": ended.evaluation}
    if ended.last is not None:
        tables[f"last checkpoint (step {ended.steps})"] = ended.last
    tables |= {f"averaged weights ({AVERAGES[name]})": found for name, found in ended.averages.items()}
    for words, found in tables.items():
        console.print(results_table(found, f"{words}, {found.setting}"))
        if found.warning:
            console.print(f"warning: {found.warning}", markup=False)


def _as_asked(records: list[Record], folder: RunFolder, config: TrainConfig) -> bool:
    """Whether the closing evaluation is one that `config` asks for; older ones do not tell what they were asked."""
    told: Any = [record for record in records if record["kind"] == "test"][-1].get("asked")
    return told == config.test.asked if told is not None else load_run_config(folder.path).test == config.test
