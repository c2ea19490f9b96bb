"""Shared by the commands that attack a model: options of attacks, folders, signals."""

import contextlib
import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from robustsabn.config import number
from robustsabn.errors import FolderInUseError, UsageError
from robustsabn.files import ASIDE, check_name
from robustsabn.locks import LOCK, locked
from robustsabn.paths import given_path
from robustsabn.text import quote

__all__ = ["claim", "command", "free_folder", "options", "short", "stoppable"]

_BEGUN = Path("journal", "identity.json")
_WORDS = {"true": True, "false": False, "none": None}


def options(words: Sequence[str]) -> dict[str, Any]:
    """Options of another library's attack, from words such as steps=40 or alpha=2/255."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"{quote(word)} is not an option of an attack; give name=value, such as steps=40"
            )
        if text.lower() in _WORDS:
            values[name] = _WORDS[text.lower()]
        elif re.fullmatch(r"[+-]?\d+", text):
            values[name] = int(text)
        else:
            value = number(text)
            values[name] = text if value is None else float(value)
    return values


def claim(out: Path | None, name: str, resume: bool, held: contextlib.ExitStack) -> Path:
    """The folder that `free_folder` returns, locked until `held` closes.

    Raises FolderInUseError if another command writes into it.
    """
    while True:
        folder = free_folder(out, name, resume)
        with contextlib.ExitStack() as tried:
            try:
                tried.enter_context(locked(folder))
            except FolderInUseError:
                if out is None and not resume:
                    continue  # another command has taken it: try the next one
                raise
            if resume or not _used(folder):  # otherwise another evaluation has used it meanwhile
                held.enter_context(tried.pop_all())
                return folder


def free_folder(out: Path | None, name: str, resume: bool) -> Path:
    """The folder of an evaluation: `out`, or the next free one of runs/NAME, runs/NAME-2, …; with `resume`
    the newest.

    Raises UsageError if `out` is not empty and `resume` is False, and if there is nothing to resume: other
    engines write a report, but no journal."""
    if out is not None:
        out = given_path(out, "--out", UsageError)
        check_name(out)
        for place in (out, *out.parents):
            if place.exists() and not place.is_dir():
                raise UsageError(f"--out: {place} is a file; choose a folder")
        if _used(out) and not resume:
            remedy = "continue it with --resume or choose" if _begun(out) else "choose"
            raise UsageError(f"--out: {out} is not empty; {remedy} another folder")
        newest = following = out
    else:
        newest, following, n = Path(), Path("runs") / name, 1
        while _used(following) or (following / LOCK).exists():
            n += 1
            newest, following = following, Path("runs") / f"{name}-{n}"
    if not resume:
        return following
    if newest == Path() or not newest.is_dir() or not any(newest.iterdir()):
        raise UsageError(f"--resume: there is nothing in {out or following}; leave --resume out to start")
    if _used(newest) and not _begun(newest):
        raise UsageError(
            f"--resume: {newest} has no evaluation that can be continued: {_BEGUN} is missing; choose "
            "another folder"
        )
    return newest


def short(spec: str) -> str:
    """A model specification as part of a folder name.

    runs/digits gives digits, torchvision:resnet18 gives resnet18, net.py:make gives net-make.
    """
    source, _, name = spec.rpartition(":")
    words = Path(name).name
    if source not in ("", "torchvision", "timm"):
        words = f"{re.split(r'[./]', source.removesuffix('.py'))[-1]}-{name}"
    return re.sub(r"[^\w.-]+", "-", words).strip("-.") or "model"


def _used(folder: Path) -> bool:
    """Whether a folder has more than the leftovers of an evaluation that was killed before its start."""
    if not folder.is_dir():
        return False
    entries = {path.name for path in folder.iterdir()} - {LOCK}
    journal = {path.name for path in (folder / "journal").glob("*")} - {LOCK, "clean.safetensors"}
    return bool(entries - {"journal"}) or any(not name.startswith(ASIDE) for name in journal)


def _begun(folder: Path) -> bool:
    return (folder / _BEGUN).is_file()


def command(words: Sequence[str]) -> str:
    """The command line as it was given, quoted for a shell."""
    return shlex.join(["robustsabn", *words])


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside the block SIGTERM stops like Ctrl-C: written files stay, and the exit code is 130."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
