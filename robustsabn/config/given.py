"""Objects that were given in Python, under the names by which a configuration mentions them.

A configuration is text. A network or data set that exists only as an object is called `object:NAME-HASH`
there, and belongs to this process: another one must be given it again.
"""

from typing import Any

from robustsabn.errors import RobustsabnError

__all__ = ["PREFIX", "is_given", "known", "name_given", "recall"]

PREFIX = "object:"
_KNOWN: dict[str, Any] = {}


def name_given(value: Any, kind: str, digest: str) -> str:
    """The name of an object of this `kind`, such as its class; equal digests give equal names."""
    name = f"{PREFIX}{kind}-{digest[:8]}"
    _KNOWN[name] = value
    return name


def is_given(spec: object) -> bool:
    """Whether `spec` is the name of an object."""
    return isinstance(spec, str) and spec.startswith(PREFIX)


def known(spec: str) -> bool:
    """Whether this process has been given the object."""
    return spec in _KNOWN


def recall(spec: str, error: type[RobustsabnError]) -> Any:
    """The object of this name; `error`, which says what to give again, if this process does not have it."""
    if spec not in _KNOWN:
        raise error(
            f"{spec.removeprefix(PREFIX)} is an object that was given in Python, and this process does not "
            "have it; give it again as model= or data=, or train with file.py:FUNCTION, which commands read"
        )
    return _KNOWN[spec]
