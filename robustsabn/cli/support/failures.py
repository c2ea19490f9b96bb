"""Errors of the command line: one line and an exit code; a traceback only for unknown causes."""

import codecs
import os
import re
import sys

from robustsabn.errors import RobustsabnError
from robustsabn.text import one_line, shorten

__all__ = ["explain", "prepare_streams", "say"]

LONGEST_WORD = 160
LONGEST_MESSAGE = 380

_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|bad_?alloc", re.IGNORECASE)
_PLAIN = {"…": "...", "±": "+-", "·": "-", "→": "->", "█": "#", "━": "-", "•": "*"}


def explain(error: BaseException) -> str | None:
    """The message for `error`; None for a bug of ours, which needs the traceback."""
    if isinstance(error, RobustsabnError):
        return str(error)
    if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
        where = "GPU" if type(error).__name__ == "OutOfMemoryError" else "machine"
        return (
            f"the {where} is out of memory ({one_line(error, 120)}); choose a smaller batch_size (train: "
            "batch_size= or accumulate=; evaluate and autoattack: --batch-size), fewer images, or smaller "
            "tiles (stylize: --tile)"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {error.strerror}; check that the path exists and that you may read and "
            "write it"
        )
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return f"the system reports: {os.strerror(error.errno)}; free this resource, or write to another disk"
    return None


def say(message: str) -> None:
    """Print one line to the error stream, with long words and long lines cut."""
    line = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: shorten(word[0], LONGEST_WORD), message)
    print(f"robustsabn: {shorten(' '.join(line.split()), LONGEST_MESSAGE)}", file=sys.stderr)


def prepare_streams() -> None:
    """Replace characters that the terminal's encoding lacks by similar ones, instead of failing.

    A closed stream drops what is printed, and a terminal of width 0 gets the usual width.
    """
    if not os.environ.get("COLUMNS", "80").strip("0"):
        del os.environ["COLUMNS"]
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: otherwise the next opened file would take its number
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    codecs.register_error("robustsabn", _substitute)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if getattr(stream, "errors", None) == "strict" and reconfigure is not None:
            reconfigure(errors="robustsabn")


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, "?" if c.isprintable() else ascii(c)[1:-1]) for c in text), error.end
