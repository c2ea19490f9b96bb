"""Trains a configuration with several seeds or settings, one after the other, and compares the runs."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import robustsabn.config
from robustsabn.config.loader import Overrides, listed
from robustsabn.errors import CheckpointError, ConfigError, FolderInUseError
from robustsabn.locks import LOCK, locked
from robustsabn.report.following import browse
from robustsabn.scalars import whole
from robustsabn.text import quote
from robustsabn.trainers.comparing import Comparison, compare
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.grid import points
from robustsabn.trainers.loop.ended import ended_run
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.pages import write_sweep_page
from robustsabn.trainers.processes.distributed import shared, start
from robustsabn.trainers.processes.signals import Interrupted, noted
from robustsabn.trainers.processes.stopping import Stop
from robustsabn.trainers.runs.folder import RunFolder, run_name
from robustsabn.trainers.runs.metrics import read_records
from robustsabn.trainers.runs.pages.comparison import print_comparison
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
    name: str
    folder: str
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
        key, _, text = one.partition("=") if isinstance(one, str) else ("seed", "", one.get("seed"))
        if key == "seed" and text is not None:
            raise ConfigError(f"seed={text} beside seeds=: leave it out, or seeds= for a single run")
    return load_config(config, overrides)


def sweep(
    config: Config | None = None,
    overrides: Overrides = (),
    seeds: Sequence[int] | None = (0, 1, 2),
    resume: bool = False,
    **settings: Any,
) -> Comparison:
    """Train with each of `seeds`, one after the other, in OUT/seed-0, OUT/seed-1, …, and compare the results.

    Overrides with several values, such as "attack.eps=2/255,4/255" or {"norm": ["sabn", "auxbn"]}, are
    trained in every combination, in OUT/attack.eps=2-255/seed-0, …; with `seeds` None by the seed of the
    configuration, in OUT/attack.eps=2-255, …. OUT is `out` of the configuration, or the next free one of
    runs/NAME, runs/NAME-2, …. `resume` skips finished runs, continues the interrupted one and starts the
    others. At the end OUT/report/index.html, a page with the results over the swept keys, is written. Other
    arguments and errors are those of `train`.

    Example:

        >>> from robustsabn.trainers import sweep
        >>> tiny = ["steps=1", "batch_size=8", "device=cpu", "validation.steps=1", "validation.gap=false",
        ...         "test.images=16", "test.steps=1", "test.autoattack=none"]
        >>> comparison = sweep("digits", [*tiny, "out=runs/seeds"], seeds=(0, 1))
        >>> [len(group.runs) for group in comparison.groups]
        [2]
    """
    if seeds is not None and (not isinstance(seeds, Sequence) or any(whole(seed) is None for seed in seeds)):
        raise ConfigError(f"seeds are {quote(seeds)}; give distinct whole numbers from 0, such as [0, 1, 2]")
    config, told = start_from(config, overrides, settings)
    chosen = None if seeds is None else Seeds(tuple(seeds)).seeds
    runs = _runs(config, told, chosen)
    shared_config = next(iter(runs.values()))
    acc = start(shared_config)
    console = Console(quiet=not acc.is_main_process, soft_wrap=True, highlight=False)
    # only the main process looks: another process may already have created files
    with contextlib.ExitStack() as held, noted() as signals:
        jobs = shared(acc, lambda: _plan(runs, run_name(config), resume, held))
        stop = Stop(acc, signals)
        for number, job in enumerate(jobs, 1):
            if stop.requested_so_far():
                console.print(f"stopped before {job.name}; --resume continues with it", markup=False)
                raise Interrupted
            state = "has ended" if job.ended else "continues" if job.begun else "begins"
            console.print(f"{job.name} {state}: {job.config.out}", markup=False)
            if not job.ended:
                try:
                    run(job.config, task_class(job.config), resume=job.begun)
                except Interrupted:
                    which = f"this was {job.name}, run {number} of {len(jobs)} of the sweep"
                    console.print(f"{which}; repeat its command with --resume to train all", markup=False)
                    raise
    comparison = shared(acc, lambda: compare([str(job.config.out) for job in jobs]))
    if acc.is_main_process:
        print_comparison(comparison)
        place = Path(str(jobs[0].config.out)).parents[len(Path(jobs[0].folder).parts) - 1]
        page = place / "report" / "index.html"
        if not page.is_file() or not all(job.ended for job in jobs):
            page = write_sweep_page(place)
        console.print(f"the sweep is in {place}, its page is {page}", markup=False)
        console.print(browse(page), markup=False)
    return comparison


def _runs(config: Config, overrides: Overrides, seeds: Sequence[int] | None) -> dict[str, RunConfig]:
    """The configuration of each run of a sweep, by its folder below that of the sweep."""
    runs = {}
    for point in points(config, overrides):
        own = load_config(config, point.overrides) if seeds is None else common(config, point.overrides)
        for seed in [own.seed] if seeds is None else seeds:
            parts = [point.folder] * bool(point.folder) + [f"seed-{seed}"] * (seeds is not None)
            runs["/".join(parts) or f"seed-{seed}"] = replace(own, seed=seed)
    return runs


def _plan(runs: Mapping[str, RunConfig], name: str, resume: bool, held: contextlib.ExitStack) -> list[_Job]:
    """The runs of a sweep, in a folder that is locked until `held` closes."""
    place, killed = _claim(next(iter(runs.values())).out, name, resume, held)
    jobs = []
    for label, config in runs.items():
        folder = RunFolder.choose(str(place / label), name, resume)
        own, begun = replace(config, out=str(folder.path)), resume and folder.begun
        words = label.replace("seed-", "seed ").replace("/", ", ")
        jobs.append(_Job(words, label, own, begun, begun and _ended(folder, own)))
    if resume and not killed and not any(job.begun for job in jobs):
        which = "; ".join(job.name for job in jobs)
        seeds = f"seed {', '.join(str(job.config.seed) for job in jobs)}"
        raise CheckpointError(
            f"{place} holds no run of {which if '=' in which else seeds} to resume; start without --resume"
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
