"""Compares runs: those that differ only in the seed form one group, with mean and deviation."""

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustsabn.errors import CheckpointError
from robustsabn.report.shown import Shown
from robustsabn.text import counted
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.runs.config_diff import differences, words
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column
from robustsabn.trainers.runs.metrics import average_names, read_records, training_seconds, understood
from robustsabn.trainers.runs.results import EndedRun, Results

__all__ = ["DIFFERENT_WAYS", "Comparison", "Group", "Spread", "compared", "read_ended"]

LONGEST_NAME = 40
DIFFERENT_WAYS = "these runs were evaluated in different ways"


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of `n` runs; the deviation of a single run is None."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed; `differing` has the settings that distinguish the group."""

    name: str
    differing: dict[str, Any]
    runs: tuple[EndedRun[Any], ...]

    def spread(self, number: str) -> Spread | None:
        """Mean and deviation of a number over the runs that have it; None if no run has it."""
        values = [run.all_numbers[number] for run in self.runs if number in run.all_numbers]
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return Spread(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """The comparison of several runs, see `compare`.

    - groups: runs that differ only in the seed, in the order of their first runs. `group.spread(name)` gives
      mean and sample deviation of a number.
    - warnings: lines to know before reading the numbers; skipped: a line for each run that was left out.
    - columns, curves: the numbers to show and the curves to draw, each with its heading.

    Example, after that of `train`:

        >>> from robustsabn.trainers import compare
        >>> comparison = compare(["runs/tiny"])
        >>> len(comparison.groups), len(comparison.runs), sorted(comparison.to_dict())
        (1, 1, ['groups', 'skipped', 'warnings'])
    """

    groups: tuple[Group, ...]
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    curves: Mapping[str, Column] = field(default_factory=dict)

    @property
    def runs(self) -> tuple[EndedRun[Any], ...]:
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def summary(self) -> str:
        return f"{counted(len(self.runs), 'run')} in {counted(len(self.groups), 'group')}"

    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        numbers = list(dict.fromkeys(number for run in self.runs for number in run.all_numbers))
        head = ["group", "n", *(name for number in numbers for name in (number, f"{number}_deviation"))]
        rows: list[list[Any]] = []
        for group in self.groups:
            spreads = [group.spread(number) for number in numbers]
            both = [(None, None) if s is None else (s.mean, s.deviation) for s in spreads]
            rows.append([group.name, len(group.runs), *(value for pair in both for value in pair)])
        return head, rows

    def to_dict(self) -> dict[str, Any]:
        """Names, settings and numbers, for JSON; `values` are in the order of `seeds`."""
        return {
            "groups": [_plain(group) for group in self.groups],
            "warnings": list(self.warnings),
            "skipped": list(self.skipped),
        }


def read_ended(folder: RunFolder, config: RunConfig, results: Results[Any, Any]) -> EndedRun[Any]:
    """Read a finished run of the task of `results`.

    Raises CheckpointError if it has not ended.
    """
    records = list(read_records(folder.metrics))
    with understood(folder.metrics):
        evaluation = results.closing(records)
        if evaluation is None:
            raise CheckpointError(
                f"{folder.path} has not ended; wait for it, or if it was stopped end it with "
                f"`robustsabn train {folder.config} --resume`"
            )
        closings = {name: results.closing(records, f"test_{name}") for name in average_names(records)}
        numbers = {**evaluation.numbers(), **results.later(folder, config, evaluation)}
        if (seconds := training_seconds(records, config.step_images)) is not None:
            numbers["training_seconds"] = seconds
        per_epoch = next(
            (r["step"] / r["epoch"] for r in records if r["kind"] == "train" and r.get("epoch")), 1
        )
        courses = {
            name: tuple((step / per_epoch, value) for step, value in course)
            for name, course in results.courses(records).items()
        }
        return EndedRun(
            folder=folder.path,
            seed=config.seed,
            settings=results.settings(config, evaluation),
            evaluation=evaluation,
            numbers=numbers,
            averaged={name: other.numbers() for name, other in closings.items() if other is not None},
            courses=courses,
        )


def compared(
    ended: Sequence[EndedRun[Any]], results: Results[Any, Any], skipped: Sequence[str]
) -> Comparison:
    """Group these runs; `skipped` has a line for each run that was left out."""
    alike: dict[str, list[EndedRun[Any]]] = {}
    for run in ended:
        alike.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    groups = _named(list(alike.values()))
    return Comparison(
        groups=groups,
        warnings=tuple(_warnings(groups)),
        skipped=tuple(skipped),
        columns=results.columns(ended),
        curves=results.curves(ended),
    )


def _named(alike: Sequence[Sequence[EndedRun[Any]]]) -> tuple[Group, ...]:
    """Groups named after their differing settings if these are short, else after their folders."""
    differing = differences([runs[0].settings for runs in alike])
    labels, folders = [words(chosen) for chosen in differing], [_folder_name(runs) for runs in alike]
    short = all(labels) and max(map(len, labels)) <= LONGEST_NAME
    chosen_names = labels if short or len(set(folders)) < len(folders) else folders
    parts = zip(chosen_names, differing, alike, strict=True)
    return tuple(Group(name, chosen, tuple(runs)) for name, chosen, runs in parts)


def _folder_name(runs: Sequence[EndedRun[Any]]) -> str:
    """The name of a sweep's folder, else of the runs' folders.

    The numbers at the end are dropped if there are several.
    """
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
            measured.setdefault(run.evaluation.protocol, []).append(group.name)
            if run.seed in seeds:
                yield (
                    f"{group.name}: {seeds[run.seed]} and {run.folder} are the same run, with seed "
                    f"{run.seed}; the spread is too small, leave one out"
                )
            seeds[run.seed] = run.folder
            if run.evaluation.warning:
                yield f"{run.folder}: {run.evaluation.warning}"
    if len(measured) > 1:
        which = "; ".join(
            f"{how or 'not measured'}: {', '.join(dict.fromkeys(who))}" for how, who in measured.items()
        )
        yield f"{DIFFERENT_WAYS}, do not compare their numbers: {which}"


def _plain(group: Group) -> dict[str, Any]:
    known = dict.fromkeys(number for run in group.runs for number in run.all_numbers)
    numbers = {}
    for number in known:
        spread = group.spread(number)
        assert spread is not None
        values = [run.all_numbers.get(number) for run in group.runs]
        numbers[number] = {"mean": spread.mean, "deviation": spread.deviation, "values": values}
    return {
        "name": group.name,
        "settings": group.differing,
        "seeds": [run.seed for run in group.runs],
        "folders": [str(run.folder) for run in group.runs],
        "measured": group.runs[0].evaluation.measurement(),
        "numbers": numbers,
    }
