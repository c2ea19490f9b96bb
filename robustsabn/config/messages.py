"""The messages of the configuration loader for keys and values that it rejects."""

from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from robustsabn.errors import ConfigError
from robustsabn.text import nearest, quote, shorten

__all__ = ["fail", "join", "mismatch", "show", "source", "unknown"]

NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "none",
}


SHOWN = 12
"""The largest number of allowed keys that is listed beside a suggestion."""


def join(path: str, key: object) -> str:
    """The dotted path of `key` below `path`."""
    return f"{path}.{key}" if path else str(key)


def source(place: str) -> str:
    """The place in brackets, for the end of a message."""
    return f" ({place})" if place else ""


def fail(at: str, message: str, place: str) -> NoReturn:
    """Raise ConfigError for the dotted key `at`, written at `place`."""
    raise ConfigError(f"{shorten(at)}: {message}{source(place)}")


def mismatch(hint: Any, value: Any, at: str, place: str) -> NoReturn:
    """Raise ConfigError for a value that does not fit the type `hint`."""
    quotes = "; put it in quotes" if hint is str and isinstance(value, (bool, int, float)) else ""
    fail(at, f"expected {_describe(hint)}, got {show(value)}{quotes}", place)


def unknown(cls: type, key: str, at: str, place: str) -> NoReturn:
    """Raise ConfigError for a key that is no field of `cls`, with the most similar key."""
    allowed = [field.name for field in fields(cls) if field.init]
    paths = _paths(cls)
    inner = [path for path in paths if path.split(".")[-1] == key]
    if key in paths:  # dotted keys are for overrides only
        *outer, last = key.split(".")
        fail(
            at,
            f"keys nest in a file; write {''.join(f'{name}: {{' for name in outer)}{last}: "
            f"...{'}' * len(outer)}",
            place,
        )
    hint = f" (did you mean {inner[0]}?)" if inner else nearest(key, allowed)
    listed = "" if hint and len(allowed) > SHOWN else f"; allowed: {', '.join(allowed)}"
    fail(at, f"unknown key{hint}{listed}", place)


def show(value: Any) -> str:
    """A value as written in YAML."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else quote(value)


def _paths(cls: type, prefix: str = "") -> list[str]:
    hints, paths = get_type_hints(cls), []
    for field in fields(cls):
        paths.append(prefix + field.name)
        for member in (hints[field.name], *get_args(hints[field.name])):
            if isinstance(member, type) and is_dataclass(member):
                paths += _paths(member, f"{prefix}{field.name}.")
    return paths


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if hint in NAMES:
        return NAMES[hint]
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (Union, UnionType):
        return " or ".join(_describe(member) for member in args)
    if origin is tuple:
        count = "a list" if args[-1] is Ellipsis else f"a list of {len(args)}"
        return f"{count}, each {_describe(args[0])}"
    if isinstance(hint, type) and is_dataclass(hint):
        return f"a mapping with keys among {', '.join(field.name for field in fields(hint) if field.init)}"
    return "a mapping"
