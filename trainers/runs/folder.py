"""Run folders: the files in them, choosing one for a run, and locking it."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustsabn.config.yaml_lines import read as read_yaml
from robustsabn.errors import CheckpointError, ConfigError, FolderInUseError
from robustsabn.files import check_name
from robustsabn.locks import LOCK, locked
from robustsabn.paths import given_path, sweep_runs

__all__ = ["RunFolder", "run_name"]


class RunFolder:
    """The files in a run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = given_path(path, "the run folder", CheckpointError)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        within = self.path / "tb"  # of runs by earlier versions, which TensorBoard called NAME/tb
        self.tb = within if within.is_dir() else self.path
        self.checkpoints = self.path / "checkpoints"

    def written_config(self) -> Mapping[str, Any]:
        """The contents of its config.yaml. Raises CheckpointError if there is none."""
        if not self.config.is_file():
            if (seeds := sweep_runs(self.path)) != []:
                raise CheckpointError(f"{self.path} is a sweep; give one of its runs, such as {seeds[0]}")
            raise CheckpointError(
                f"{self.path} is not a run folder: it has no config.yaml; give a folder that train wrote"
            )
        return read_yaml(self.config)

    @property
    def used(self) -> bool:
        """Whether a run has started here."""
        return self.checkpoints.is_dir() or self.metrics.exists()

    @property
    def begun(self) -> bool:
        """Whether a run was started here, even one that was killed at once; it may be resumed."""
        return self.used or self.config.is_file() or (self.path / LOCK).exists()

    @property
    def stored(self) -> bool:
        """Whether the folder has a complete checkpoint."""
        return any(self.checkpoints.glob("[!.]*/state.json"))

    @property
    def blank(self) -> bool:
        """Whether a new run may start here: the folder has no checkpoint and no metrics."""
        return not self.stored and not (self.metrics.exists() and self.metrics.stat().st_size)

    @property
    def sweep(self) -> bool:
        """Whether the folder has the runs of a sweep."""
        return any(any(self.path.glob(name)) for name in ("seed-*", "*=*"))

    def check_place(self) -> None:
        """Check that a run can be written here.

        Raises ConfigError if the folder holds an evaluation or a file is in its place, and WriteError if the
        name is not UTF-8.
        """
        check_name(self.path)
        for place in (self.path, *self.path.parents):
            if place.exists() and not place.is_dir():
                raise ConfigError(f"out: {place} is a file; choose a folder")
        evaluated = (self.path / "report.json").exists() or (self.path / "journal").is_dir()
        if evaluated and not self.used:
            raise ConfigError(f"out: {self.path} holds an evaluation by autoattack; choose another folder")

    @staticmethod
    def claim(out: str | None, name: str, resume: bool, held: contextlib.ExitStack) -> "RunFolder":
        """The folder that `choose` returns, locked until `held` closes.

        Raises FolderInUseError if another command writes into it, and CheckpointError if there is no run to
        resume.
        """
        while True:
            folder = RunFolder.choose(out, name, resume)
            if resume and not folder.begun:
                raise CheckpointError(
                    f"{folder.path} holds no checkpoint to resume from; start it without --resume"
                )
            with contextlib.ExitStack() as tried:
                try:
                    tried.enter_context(locked(folder.path))
                except FolderInUseError:
                    if out is None and not resume:
                        continue  # another command took it first: try the next one
                    raise
                if resume or folder.blank:  # otherwise another run used it in the meantime
                    held.enter_context(tried.pop_all())
                    return folder

    @staticmethod
    def choose(out: str | None, name: str, resume: bool) -> "RunFolder":
        """The folder `out`, or the next free one of runs/NAME, runs/NAME-2, …; to resume, the newest.

        Raises ConfigError if `out` holds a sweep, files of another command, or a run that is not to be
        resumed.
        """
        if out is not None:
            folder = RunFolder(out)
            folder.check_place()
            if not folder.blank and not resume:
                raise ConfigError(
                    f"out: {out} holds a run; continue it with --resume or choose another folder"
                )
            if folder.sweep:
                raise ConfigError(f"out: {out} holds a sweep; give its seeds= or choose another folder")
            return folder
        taken, free = RunFolder.default(name, resume)
        runs = [folder for folder in taken if not folder.sweep]
        return (runs or [RunFolder(Path("runs") / name)])[-1] if resume else free

    @staticmethod
    def default(name: str, resume: bool = False) -> "tuple[list[RunFolder], RunFolder]":
        """The folders runs/NAME, runs/NAME-2, … that are taken by runs or sweeps, and the next free one.

        A run that was killed at once counts as taken only with `resume`.
        """
        taken, free = list[RunFolder](), RunFolder(Path("runs") / name)
        while free.used or free.sweep or (free.path / LOCK).exists() or (resume and free.begun):
            taken.append(free)
            free = RunFolder(Path("runs") / f"{name}-{len(taken) + 1}")
        return taken, free


def run_name(config: object) -> str:
    """The name of a run: the stem of the file or recipe `config`, otherwise "run"."""
    return Path(config).stem if isinstance(config, (str, Path)) else "run"
