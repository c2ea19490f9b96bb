"""Names of routes, which are also used in file names, table columns and log tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["what_is_wrong"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", re.ASCII)


def what_is_wrong(names: Sequence[object]) -> str:
    """What to change about the names of a model's routes; empty if they are allowed."""
    if not names or len(set(map(str, names))) < len(names):
        return "give at least one route, and every name once"
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return "a name has 1 to 64 of the characters A-Z a-z 0-9 _ and -, and does not begin with -"
        if name == "all":
            return "the name all means every route; choose another name"
    return ""
