"""Files that are complete or absent: written aside, flushed to the disk, renamed."""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from errno import (
    EACCES,
    EDQUOT,
    EEXIST,
    EFBIG,
    EIO,
    EISDIR,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    EPERM,
    EROFS,
)
from pathlib import Path

from robustsabn.errors import RobustsabnError, WriteError

__all__ = [
    "ASIDE",
    "check_name",
    "flush",
    "make_folder",
    "replacing",
    "require_space",
    "write_text",
    "writing",
]

ASIDE = ".writing-"
"""What the names of files and folders begin with that are not complete yet."""

_UNWRITABLE = {EACCES, EEXIST, EIO, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, EROFS}
_FULL = {EDQUOT, EFBIG, ENOSPC}
_TORCH = ("PytorchStreamWriter", "iostream error", "unexpected pos")


@contextlib.contextmanager
def replacing(path: str | Path, ending: str | None = None) -> Iterator[Path]:
    """A name in the folder of `path` to write a file under; at the end of the block it is flushed and takes the name `path`.

    Where the block fails nothing is left of it, and what was at `path` stays. The file has the mode that the umask gives,
    whatever wrote it. Raises WriteError, in one line, where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    check_name(path)
    ending = path.suffix if ending is None else ending  # by which some writers choose their format
    aside = path.with_name(f"{ASIDE}{uuid.uuid4().hex[:12]}{ending}")
    with writing(path):
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        mode = os.fstat(handle).st_mode & 0o777
        os.close(handle)
        try:
            yield aside
            aside.chmod(mode)  # safetensors are readable by their owner alone otherwise
            flush(aside)
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Put `text` at `path` as UTF-8: a reader finds the old file or the new one. Raises as `replacing`."""
    with replacing(path) as aside:
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What fails in the block because the disk is full or `path` cannot be written becomes a WriteError that names `path`."""
    try:
        yield
    except RobustsabnError:
        raise
    except Exception as error:
        number = _number(error, Path(path))
        if number in _FULL:
            way = "free some space there, or write to another disk"
        elif number in _UNWRITABLE:
            way = "check that the folder exists and may be written, or choose another"
        else:
            raise
        raise WriteError(f"{path}: {os.strerror(number)}; {way}") from error


def make_folder(folder: str | Path, needed: int = 0) -> None:
    """Make `folder` if need be, and see that files can be written into it, `needed` bytes of them; WriteError where not."""
    folder = Path(folder)
    check_name(folder)
    probe = folder / f"{ASIDE}{uuid.uuid4().hex[:12]}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"\n")
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
    require_space(folder, needed)


def require_space(folder: Path, needed: int) -> None:
    """WriteError where the disk of `folder` has fewer than `needed` bytes left."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # a file system that does not tell
        return
    if free < needed:
        raise WriteError(
            f"{folder} needs {_size(needed)} and its disk has {_size(free)} left; free some space there, or write to "
            "another disk"
        )


def _size(count: int) -> str:
    """A number of bytes as a person reads it."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def check_name(path: str | Path) -> None:
    """WriteError for a name that is not UTF-8: no page could show it."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise WriteError(f"{str(path)!a} is not a name in UTF-8; choose another name") from None


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _number(error: Exception, path: Path) -> int:
    """The number of the system's error that `error` tells of, if that is about `path`; 0 otherwise."""
    if isinstance(error, OSError) and error.errno is not None:
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        ours = named is None or named.parent in (path, path.parent) or named in path.parents
        return error.errno if ours else 0
    if found := re.search(r"os error (\d+)", str(error)):  # of safetensors
        return int(found[1])
    return ENOSPC if any(word in str(error) for word in _TORCH) else 0  # torch keeps the number to itself
