"""Files that are complete or absent: written under a temporary name, flushed to disk, then renamed."""

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
"""Start of the names of files and folders that are not complete yet."""

_UNWRITABLE = {EACCES, EEXIST, EIO, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, EROFS}
_FULL = {EDQUOT, EFBIG, ENOSPC}
_TORCH = ("PytorchStreamWriter", "iostream error", "unexpected pos")


@contextlib.contextmanager
def replacing(path: str | Path, ending: str | None = None) -> Iterator[Path]:
    """A temporary path beside `path` to write a file to; after the block it is flushed and renamed to `path`.

    If the block fails, the temporary file is removed and `path` keeps its contents. The file's mode follows
    the umask, whatever wrote it. Raises WriteError where the disk is full or the folder is not writable."""
    path = Path(path)
    check_name(path)
    ending = path.suffix if ending is None else ending  # some writers choose their format by it
    aside = path.with_name(f"{ASIDE}{uuid.uuid4().hex[:12]}{ending}")
    with writing(path):
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        mode = os.fstat(handle).st_mode & 0o777
        os.close(handle)
        try:
            yield aside
            aside.chmod(mode)  # safetensors makes files that only their owner can read
            flush(aside)
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8; a reader sees the old file or the new one. Raises as `replacing`."""
    with replacing(path) as aside:
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an error of the block into a WriteError that names `path`, if the disk is full or not writable."""
    try:
        yield
    except RobustsabnError:
        raise
    except Exception as error:
        number = _number(error, Path(path))
        if number in _FULL:
            remedy = "free some space there, or write to another disk"
        elif number in _UNWRITABLE:
            remedy = "check that the folder exists and is writable, or choose another one"
        else:
            raise
        raise WriteError(f"{path}: {os.strerror(number)}; {remedy}") from error


def make_folder(folder: str | Path, needed: int = 0) -> None:
    """Make `folder` if it does not exist, and check that it is writable and has `needed` bytes of space.

    Raises WriteError otherwise.
    """
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
    """Raise WriteError if the disk of `folder` has fewer than `needed` bytes left."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # some file systems do not report it
        return
    if free < needed:
        raise WriteError(
            f"{folder} needs {_size(needed)}, but its disk has only {_size(free)} left; free some space "
            "there, or write to another disk"
        )


def _size(count: int) -> str:
    """A number of bytes as text, in KiB or MiB."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def check_name(path: str | Path) -> None:
    """Raise WriteError for a name that is not UTF-8, which no page could show."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise WriteError(f"the name {str(path)!a} is not UTF-8; choose another name") from None


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _number(error: Exception, path: Path) -> int:
    """The errno behind `error` if it concerns `path`; 0 otherwise."""
    if isinstance(error, OSError) and error.errno is not None:
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        ours = named is None or named.parent in (path, path.parent) or named in path.parents
        return error.errno if ours else 0
    if match := re.search(r"os error (\d+)", str(error)):  # from safetensors
        return int(match[1])
    return ENOSPC if any(word in str(error) for word in _TORCH) else 0  # torch gives no number
