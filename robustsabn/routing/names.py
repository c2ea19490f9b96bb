"""Names of routes: they become names of files, columns of tables and tags of logs."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["what_is_wrong"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", re.ASCII)


def what_is_wrong(names: Sequence[object]) -> str:
    """What to change about the names of a model's routes; empty where they are fine."""
    if not names or len(set(map(str, names))) < len(names):
        return "at least one route, and every name once"
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return "a name is 1 to 64 of the characters A-Z a-z 0-9 _ and -, and does not begin with -"
        if name == "all":
            return "the name all is taken: it means every route"
    return ""
