"""Checks of paths that a user gives, and the folder of the cache."""

import os
from pathlib import Path

from robustsabn.errors import RobustsabnError
from robustsabn.text import quote

__all__ = ["cache_folder", "given_path", "sweep_runs"]


def given_path(value: object, what: str, error: type[RobustsabnError]) -> Path:
    """`value` as a path, with a leading ~ expanded; raises `error` about `what` if it is not a path."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(text := os.fspath(value), str):
        raise error(f"{what} is {quote(value)}; give the path as text or pathlib.Path")
    if not text:
        raise error(f"{what} is empty text; give a path")
    if "\0" in text:
        raise error(f"{what} is {quote(text)}, which holds a NUL character; give a path without it")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise error(f"{what} is {quote(text)}, but there is no such user; give the full path") from None
    try:
        path.stat()
    except OSError as problem:
        if "long" in (problem.strerror or ""):
            raise error(f"{what} is {quote(text)}: {problem.strerror}; give a shorter path") from None
    except ValueError:
        raise error(f"{what} is {quote(text)}, which is no path on this system; give another one") from None
    return path


def cache_folder() -> Path:
    """The folder of the cache: ROBUSTSABN_CACHE, else `robustsabn` in XDG_CACHE_HOME or in ~/.cache."""
    if own := os.environ.get("ROBUSTSABN_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "robustsabn"


def sweep_runs(folder: Path) -> list[Path]:
    """The runs of a sweep in `folder`, in order; none if it is something else."""
    patterns = ("seed-*/config.yaml", "*=*/config.yaml", "*=*/seed-*/config.yaml")
    return sorted(place.parent for pattern in patterns for place in folder.glob(pattern))
