"""Run folders: the places inside, which one a run takes, and that no other command takes it too."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustsabn.config.yaml_lines import read as read_yaml
from robustsabn.errors import CheckpointError, ConfigError, FolderInUseError
from robustsabn.files import check_name
from robustsabn.locks import LOCK, locked
from robustsabn.paths import given_path

__all__ = ["RunFolder", "run_name"]


class RunFolder:
    """The places inside a run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = given_path(path, "the run folder", CheckpointError)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.tb = self.path / "tb"
        self.checkpoints = self.path / "checkpoints"

    def written_config(self) -> Mapping[str, Any]:
        """What its config.yaml says, key by key; CheckpointError where there is none."""
        if not self.config.is_file():
            raise CheckpointError(
                f"{self.path} is not a run folder: it has no config.yaml; give a folder that train wrote"
            )
        return read_yaml(self.config)

    @property
    def used(self) -> bool:
        """Whether a run has begun here."""
        return self.checkpoints.is_dir() or self.metrics.exists()

    @property
    def begun(self) -> bool:
        """Whether a run was started here, were it killed at once: it may be resumed."""
        return self.used or self.config.is_file() or (self.path / LOCK).exists()

    @property
    def stored(self) -> bool:
        """Whether there is a complete checkpoint."""
        return any(self.checkpoints.glob("[!.]*/state.json"))

    @property
    def blank(self) -> bool:
        """Whether nothing has come of it yet: it may begin again."""
        return not self.stored and not (self.metrics.exists() and self.metrics.stat().st_size)

    @property
    def sweep(self) -> bool:
        """Whether the runs of a sweep are in here."""
        return any(self.path.glob("seed-*"))

    def check_place(self) -> None:
        """ConfigError where an evaluation is in here, or a file in its way; WriteError for a name that is
        not UTF-8.
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
        """The folder that `choose` gives, locked until `held` closes; FolderInUseError where another command
        writes into it.

        Raises CheckpointError where nothing was begun that could be resumed.
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
                        continue  # another command was quicker: the next one
                    raise
                if resume or folder.blank:  # otherwise a run came and went in the meantime
                    held.enter_context(tried.pop_all())
                    return folder

    @staticmethod
    def choose(out: str | None, name: str, resume: bool) -> "RunFolder":
        """The folder `out`, or by default the next free one of runs/NAME, runs/NAME-2, …; to resume, the
        newest.

        Raises ConfigError when `out` holds a run and is not to be resumed, a sweep, or what another command
        wrote.
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
        """Those of runs/NAME, runs/NAME-2, … that are taken by runs or sweeps, and the next one, which is
        free.

        A run that was killed at once is among them only for one that is to `resume`.
        """
        taken, free = list[RunFolder](), RunFolder(Path("runs") / name)
        while free.used or free.sweep or (free.path / LOCK).exists() or (resume and free.begun):
            taken.append(free)
            free = RunFolder(Path("runs") / f"{name}-{len(taken) + 1}")
        return taken, free


def run_name(config: object) -> str:
    """What a run is called that `config`, a file, a recipe or neither, configures."""
    return Path(config).stem if isinstance(config, (str, Path)) else "run"
