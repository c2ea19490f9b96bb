"""Runs side by side: those that differ in nothing but the seed are one group, with mean and spread."""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.text import quote
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation
from robustsabn.trainers.adversarial.evaluation.metrics import AVERAGES, clean_course, closing, robust_course
from robustsabn.trainers.adversarial.runs.config_diff import differences, settings, words
from robustsabn.trainers.adversarial.runs.models import load_run_config
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Point, Record, read_records, training_seconds, understood

__all__ = ["Comparison", "EndedRun", "Group", "Spread", "compare"]

LONGEST_NAME = 40


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (None of a single run) over `n` runs."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class EndedRun:
    """A run with its closing evaluation.

    `numbers`: accuracies in [0, 1] and `training_seconds`; those of averaged weights as `ema_clean_accuracy`.
    `clean` and `robust`: validation accuracy over epochs.
    """

    folder: Path
    seed: int
    settings: dict[str, Any]
    evaluation: Evaluation
    numbers: dict[str, float]
    clean: tuple[Point, ...]
    robust: tuple[Point, ...]

    @property
    def measured(self) -> str:
        """How robustness was measured, in words."""
        return f"{self.evaluation.attack} on {self.evaluation.setting}"


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed; `differing` are the settings in which other groups differ from it."""

    name: str
    differing: dict[str, Any]
    runs: tuple[EndedRun, ...]

    def spread(self, number: str) -> Spread | None:
        """Mean and deviation of a number over the runs that have it; None where none has."""
        values = [run.numbers[number] for run in self.runs if number in run.numbers]
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return Spread(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True)
class Comparison:
    """Groups in the order of their first runs, what to know before reading the numbers, and what was left out."""

    groups: tuple[Group, ...]
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[EndedRun, ...]:
        return tuple(run for group in self.groups for run in group.runs)

    def to_dict(self) -> dict[str, Any]:
        """Names, settings and numbers, for JSON; `values` are in the order of `seeds`."""
        return {
            "groups": [_plain(group) for group in self.groups],
            "warnings": list(self.warnings),
            "skipped": list(self.skipped),
        }


def compare(runs: Sequence[str | Path]) -> Comparison:
    """Compare runs, given as run folders or as folders that hold run folders, by the closing evaluation of each.

    Runs that cannot be read or have not ended are skipped and told; CheckpointError where no other is left.
    """
    if isinstance(runs, (str, bytes)) or not isinstance(runs, Sequence):
        raise CheckpointError(f"runs are {quote(runs)}; give a list of run folders")
    ended, skipped = [], []
    for folder in _folders(runs):
        try:
            ended.append(_read(folder))
        except (CheckpointError, ConfigError) as error:
            skipped.append(str(error))
    if not ended:
        more = f" (and {len(skipped) - 1} more like this)" if len(skipped) > 1 else ""
        raise CheckpointError((skipped or ["no run is given; name run folders"])[0] + more)
    alike: dict[str, list[EndedRun]] = {}
    for run in ended:
        alike.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    groups = _named(list(alike.values()))
    return Comparison(groups, tuple(_warnings(groups)), tuple(skipped))


def _named(alike: Sequence[Sequence[EndedRun]]) -> tuple[Group, ...]:
    """Groups, by what they differ in where that is short, else by their folders."""
    differing = differences([runs[0].settings for runs in alike])
    said, folders = [words(chosen) for chosen in differing], [_folder_name(runs) for runs in alike]
    short = all(said) and max(map(len, said)) <= LONGEST_NAME
    chosen_names = said if short or len(set(folders)) < len(folders) else folders
    parts = zip(chosen_names, differing, alike, strict=True)
    return tuple(Group(name, chosen, tuple(runs)) for name, chosen, runs in parts)


def _folders(given: Sequence[str | Path]) -> list[Path]:
    """Each run once, a folder that holds no run as it was given."""
    found: dict[Path, Path] = {}
    for place in (RunFolder(one).path for one in given):
        inside = [place]
        if not RunFolder(place).config.is_file():
            configs = [*place.glob("*/config.yaml"), *place.glob("*/*/config.yaml")]
            inside = sorted((file.parent for file in configs), key=_natural) or [place]
        for folder in inside:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _natural(path: Path) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def _read(folder: Path) -> EndedRun:
    config, metrics = load_run_config(folder), RunFolder(folder).metrics
    found = list(read_records(metrics))
    with understood(metrics):
        return _ended(folder, config, found)


def _ended(folder: Path, config: TrainConfig, found: Sequence[Record]) -> EndedRun:
    evaluation = closing(found)
    if evaluation is None:
        raise CheckpointError(
            f"{folder} has not ended; end it with `robustsabn train {folder / 'config.yaml'} --resume`"
        )
    numbers = _accuracies(evaluation)
    for name in AVERAGES:
        if (averaged := closing(found, f"test_{name}")) is not None:
            numbers |= {f"{name}_{number}": value for number, value in _accuracies(averaged).items()}
    if (measured := _autoattack(folder, config, evaluation)) is not None:
        numbers[f"autoattack_accuracy_{measured[0]}"] = measured[1]
    if (seconds := training_seconds(found, config.batch_size)) is not None:
        numbers["training_seconds"] = seconds
    per_epoch = next((r["step"] / r["epoch"] for r in found if r["kind"] == "train" and r.get("epoch")), 1)
    clean, robust = (
        tuple((step / per_epoch, accuracy) for step, accuracy in course(found))
        for course in (clean_course, robust_course)
    )
    return EndedRun(folder, config.seed, settings(config, evaluation), evaluation, numbers, clean, robust)


def _accuracies(found: Evaluation) -> dict[str, float]:
    numbers = {"clean_accuracy": found.clean_accuracy, "robust_accuracy": found.robust_accuracy}
    if len(found.routes) > 1:
        numbers["clean_accuracy_last_route"] = found.clean[found.routes[-1]]
    return numbers


def _autoattack(folder: Path, config: TrainConfig, evaluation: Evaluation) -> tuple[int, float] | None:
    """Images and accuracy of AutoAttack standard through the last route, on most images: the run's own or `evaluate`'s."""
    last = evaluation.routes[-1]
    found = []
    if evaluation.autoattack:
        found.append((evaluation.autoattack_n, evaluation.autoattack[last]))
    name = "autoattack" if last == "all" else f"autoattack-{last}"
    report = folder / "report" / name / "report.json"
    if report.is_file():
        with understood(report):
            content: Record = json.loads(report.read_text(encoding="utf-8"))
            about, ball = content["about"], (config.attack.norm, config.attack.eps)
            same = about.get("checkpoint") == "best" and about.get("data") == config.data
            # not of weights that training has replaced
            same = same and about.get("step") in (None, _best_step(folder))
            if same and content["version"] == "standard" and (content["norm"], content["eps"]) == ball:
                found.append((int(content["n"]), float(content["robust_accuracy"])))
    return max(found, default=None)


def _best_step(folder: Path) -> str | None:
    """After how many steps the best checkpoint was saved; None where it has been removed."""
    try:
        return str(read_facts(RunFolder(folder).checkpoints, "best").get("step"))
    except CheckpointError:
        return None


def _folder_name(runs: Sequence[EndedRun]) -> str:
    """The folder of a sweep; else the names of the runs' folders, of several without the number at the end."""
    folders = [run.folder.resolve() for run in runs]
    if all(re.fullmatch(r"seed-\d+", folder.name) for folder in folders):
        return ", ".join(dict.fromkeys(folder.parent.name for folder in folders))
    end = r"[-_.]?\d+$" if len(folders) > 1 else "$"
    return ", ".join(dict.fromkeys(re.sub(end, "", folder.name) or folder.name for folder in folders))


def _warnings(groups: Sequence[Group]) -> Iterator[str]:
    measured: dict[str, list[str]] = {}
    for group in groups:
        seeds: dict[int, Path] = {}
        for run in group.runs:
            measured.setdefault(run.measured, []).append(group.name)
            if run.seed in seeds:
                yield (
                    f"{group.name}: {seeds[run.seed]} and {run.folder} are the same run, with seed {run.seed}; "
                    "the spread is too small, leave one out"
                )
            seeds[run.seed] = run.folder
            if run.evaluation.warning:
                yield f"{run.folder}: {run.evaluation.warning}"
    if len(measured) > 1:
        which = "; ".join(f"{how}: {', '.join(dict.fromkeys(who))}" for how, who in measured.items())
        yield f"robustness was not measured alike, do not compare the numbers across these: {which}"


def _plain(group: Group) -> dict[str, Any]:
    known = dict.fromkeys(number for run in group.runs for number in run.numbers)
    numbers = {}
    for number in known:
        spread = group.spread(number)
        assert spread is not None
        values = [run.numbers.get(number) for run in group.runs]
        numbers[number] = {"mean": spread.mean, "deviation": spread.deviation, "values": values}
    first = group.runs[0].evaluation
    return {
        "name": group.name,
        "settings": group.differing,
        "seeds": [run.seed for run in group.runs],
        "folders": [str(run.folder) for run in group.runs],
        "measured": {key: getattr(first, key) for key in ("attack", "norm", "eps", "step_size", "n")},
        "numbers": numbers,
    }
