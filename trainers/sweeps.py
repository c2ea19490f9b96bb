"""Trains one configuration with several seeds, one after the other, and compares the runs."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import robustsabn.config
from robustsabn.config.loader import Overrides, listed
from robustsabn.errors import CheckpointError, ConfigError, FolderInUseError
from robustsabn.locks import LOCK, locked
from robustsabn.scalars import whole
from robustsabn.text import quote
from robustsabn.trainers.comparing import Comparison, compare
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.loop.ended import ended_run
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.processes.distributed import shared, start
from robustsabn.trainers.processes.signals import Interrupted, noted
from robustsabn.trainers.processes.stopping import Stop
from robustsabn.trainers.runs.comparison_page import print_comparison
from robustsabn.trainers.runs.folder import RunFolder, run_name
from robustsabn.trainers.runs.metrics import read_records
from robustsabn.trainers.tasks import Config, load_config, start_from, task_class

__all__ = ["Seeds", "common", "split", "sweep"]


@dataclass(frozen=True)
class Seeds:
    """The seeds of a sweep."""

    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        text = ",".join(map(str, self.seeds))
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds are distinct whole numbers from 0, such as 0,1,2; got {text}")


@dataclass(frozen=True)
class _Job:
    config: RunConfig
    begun: bool
    ended: bool


def split(overrides: Sequence[str]) -> tuple[tuple[int, ...] | None, list[str]]:
    """The seeds of `seeds=0,1,2` in `overrides` (None if absent), and the other overrides."""
    own = [word for word in overrides if word.startswith("seeds=")]
    rest = [word for word in overrides if word not in own]
    return (robustsabn.config.load(Seeds, overrides=own).seeds if own else None), rest


def common(config: Config, overrides: Overrides = ()) -> RunConfig:
    """The configuration that all runs of a sweep share.

    Raises ConfigError if `overrides` set a single seed.
    """
    for one in listed(overrides):
        if one.startswith("seed=") if isinstance(one, str) else "seed" in one:
            raise ConfigError("seed= beside seeds=: leave it out, or seeds= for a single run")
    return load_config(config, overrides)


def sweep(
    config: Config | None = None,
    overrides: Overrides = (),
    seeds: Sequence[int] = (0, 1, 2),
    resume: bool = False,
    **settings: Any,
) -> Comparison:
    """Train with each of `seeds`, one after the other, in OUT/seed-0, OUT/seed-1, …, and compare the results.

    OUT is `out` of the configuration, or the next free one of runs/NAME, runs/NAME-2, …. `resume` skips
    finished runs, continues the interrupted one and starts the others. Other arguments and errors are those
    of `train`.

    Example:

        >>> from robustsabn.trainers import sweep
        >>> tiny = ["steps=1", "batch_size=8", "device=cpu", "validation.steps=1", "validation.gap=false",
        ...         "test.images=16", "test.steps=1", "test.autoattack=none"]
        >>> comparison = sweep("digits", [*tiny, "out=runs/seeds"], seeds=(0, 1))
        >>> [len(group.runs) for group in comparison.groups]
        [2]
    """
    if not isinstance(seeds, Sequence) or any(whole(seed) is None for seed in seeds):
        raise ConfigError(f"seeds are {quote(seeds)}; give distinct whole numbers from 0, such as [0, 1, 2]")
    config, told = start_from(config, overrides, settings)
    chosen, shared_config = Seeds(tuple(seeds)).seeds, common(config, told)
    acc = start(shared_config)
    console = Console(quiet=not acc.is_main_process, soft_wrap=True, highlight=False)
    # only the main process looks: another process may already have created files
    with contextlib.ExitStack() as held, noted() as signals:
        jobs = shared(acc, lambda: _plan(shared_config, run_name(config), chosen, resume, held))
        stop = Stop(acc, signals)
        for job in jobs:
            if stop.requested_so_far():
                console.print(
                    f"stopped before seed {job.config.seed}; --resume continues with it", markup=False
                )
                raise Interrupted
            state = "has ended" if job.ended else "continues" if job.begun else "begins"
            console.print(f"seed {job.config.seed} {state}: {job.config.out}", markup=False)
            if not job.ended:
                run(job.config, task_class(job.config), resume=job.begun)
    comparison = shared(acc, lambda: compare([str(job.config.out) for job in jobs]))
    if acc.is_main_process:
        print_comparison(comparison)
    return comparison


def _plan(
    config: RunConfig, name: str, seeds: Sequence[int], resume: bool, held: contextlib.ExitStack
) -> list[_Job]:
    """The runs of a sweep, in a folder that is locked until `held` closes."""
    place, killed = _claim(config.out, name, resume, held)
    jobs = []
    for seed in seeds:
        folder = RunFolder.choose(str(place / f"seed-{seed}"), name, resume)
        own, begun = replace(config, seed=seed, out=str(folder.path)), resume and folder.begun
        jobs.append(_Job(own, begun, begun and _ended(folder, own)))
    if resume and not killed and not any(job.begun for job in jobs):
        raise CheckpointError(
            f"{place} holds no run of seed {', '.join(map(str, seeds))} to resume; start without --resume"
        )
    return jobs


def _ended(folder: RunFolder, config: RunConfig) -> bool:
    """Whether the run has ended with this configuration, even if its checkpoints were removed since."""
    if folder.checkpoints.is_dir():
        return ended_run(folder, config, task_class(config)) is not None
    tested = any(record["kind"] == "test" for record in read_records(folder.metrics))
    return tested and replace(load_config(folder.config), out=config.out) == config


def _claim(out: str | None, name: str, resume: bool, held: contextlib.ExitStack) -> tuple[Path, bool]:
    """The locked folder of the sweep, and whether a sweep was killed there before its first run."""
    while True:
        place = _place(out, name, resume)
        killed = (place / LOCK).exists() and not RunFolder(place).sweep
        try:
            held.enter_context(locked(place))
        except FolderInUseError:
            if out is None and not resume:
                continue  # another command took it first: try the next one
            raise
        return place, killed


def _place(out: str | None, name: str, resume: bool) -> Path:
    if out is None:
        taken, free = RunFolder.default(name)
        sweeps = [folder for folder in taken if folder.sweep]
        return (sweeps[-1] if resume and sweeps else free).path
    folder = RunFolder(out)
    folder.check_place()
    if folder.used:
        raise ConfigError(f"out: {out} holds a single run; choose another folder for seeds=")
    return folder.path
