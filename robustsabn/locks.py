"""Only one command at a time writes into a folder: an advisory lock that ends with its process."""

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
    """Lock `folder` against other commands inside the block; make it if it does not exist.

    A folder that was made here and stays empty is removed again. `name` is the file of the lock, for a
    command that writes a single file into a folder of others. On Windows, and on file systems without locks,
    nothing is locked. Raises FolderInUseError, which names the process that holds the lock, and WriteError
    for a folder that is not writable."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        make_folder(folder)
        stream, exclusive = _acquired(folder / name)
        with stream:
            stream.write(f"process {os.getpid()} on {platform.node()}")
            stream.flush()
            if exclusive and name == LOCK:  # remove incomplete files of a killed command
                for leftover in folder.glob(f"{ASIDE}*"):
                    with contextlib.suppress(OSError):
                        leftover.unlink()
            try:
                yield
            finally:
                (folder / name).unlink(missing_ok=True)
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


def _acquired(file: Path) -> tuple[TextIO, bool]:
    """The open lock file, and whether it is locked."""
    while True:
        exclusive = sys.platform != "win32"
        stream = open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")  # noqa: SIM115
        try:
            if sys.platform != "win32":
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(stream)
            stream.close()
            raise FolderInUseError(
                f"{file.parent} is in use by {holder}; wait until it ends, stop it, or choose another out="
            ) from None
        except OSError:  # no locks on this file system
            exclusive = False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                stream.truncate()
                return stream, exclusive
        stream.close()  # the previous holder has just removed the file: try again


def _holder(stream: TextIO) -> str:
    try:
        words = stream.read(200)
    except ValueError:  # not text
        words = ""
    return words if words.isprintable() and words else "another process"
