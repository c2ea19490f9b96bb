"""The last line of a command: what may be typed next."""

import shlex
from pathlib import Path

__all__ = ["browse", "following"]


def following(*words: str | Path) -> str:
    """The line about a command of `robustsabn` that may follow."""
    return f"next: {shlex.join(['robustsabn', *map(str, words)])}"


def browse(page: str | Path) -> str:
    """The line about the command that opens a page in the browser."""
    return f"next: {shlex.join(['python', '-m', 'webbrowser', str(page)])}"
