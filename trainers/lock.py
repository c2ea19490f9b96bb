"""One process at a time trains in a run folder: an advisory lock that ends with its process, however that ends."""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from robustsabn.errors import TrainingError

if sys.platform != "win32":
    import fcntl

__all__ = ["LOCK", "locked"]

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` if need be and keep other processes from training in it; what stays empty is removed again.

    Raises TrainingError, which names the process that holds it. File systems without locks, and Windows, have none.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _acquired(folder / LOCK) as stream:
            stream.write(f"process {os.getpid()} on {platform.node()}")
            stream.flush()
            try:
                yield
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


def _acquired(file: Path) -> TextIO:
    while True:
        stream = open(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")  # noqa: SIM115
        try:
            if sys.platform != "win32":
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = stream.read() or "another process"
            stream.close()
            raise TrainingError(
                f"{file.parent} is in use by {holder}; wait until it ends or stop it, or choose another out="
            ) from None
        except OSError:  # no locks on this file system
            pass
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                stream.truncate()
                return stream
        stream.close()  # the holder of before has just removed it
