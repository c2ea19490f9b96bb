"""One command at a time writes into a folder: an advisory lock that ends with its process, however that ends."""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from robustsabn.errors import FolderInUseError
from robustsabn.files import ASIDE, make_folder

if sys.platform != "win32":
    import fcntl

__all__ = ["LOCK", "locked"]

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Make `folder` if need be and keep other commands from writing into it; what stays empty is removed again.

    `name` is that of the lock's file, for a command that writes one file into a folder of others. Raises FolderInUseError,
    which names the process that holds it, and WriteError for a folder that cannot be written. File systems without locks, and Windows, have none.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        make_folder(folder)
        stream, alone = _acquired(folder / name)
        with stream:
            stream.write(f"process {os.getpid()} on {platform.node()}")
            stream.flush()
            if alone and name == LOCK:  # what a killed command left may go
                for left in folder.glob(f"{ASIDE}*"):
                    with contextlib.suppress(OSError):
                        left.unlink()
            try:
                yield
            finally:
                (folder / name).unlink(missing_ok=True)
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


def _acquired(file: Path) -> tuple[TextIO, bool]:
    """The open file, and whether it is locked."""
    while True:
        alone = sys.platform != "win32"
        stream = open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")  # noqa: SIM115
        try:
            if sys.platform != "win32":
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(stream)
            stream.close()
            raise FolderInUseError(
                f"{file.parent} is in use by {holder}; wait until it ends or stop it, or choose another out="
            ) from None
        except OSError:  # no locks on this file system
            alone = False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                stream.truncate()
                return stream, alone
        stream.close()  # the holder of before has just removed it


def _holder(stream: TextIO) -> str:
    try:
        words = stream.read(200)
    except ValueError:  # whatever is in the file
        words = ""
    return words if words.isprintable() and words else "another process"
