"""Every key of a configuration as a row: type, default, range and meaning, read from its dataclasses."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import partial
from itertools import pairwise
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from robustsabn.config.build import fields_of, registry_of
from robustsabn.config.messages import NAMES
from robustsabn.errors import ConfigError

__all__ = ["Key", "keys", "written"]

FAR = 10**9
"""A bound beyond it counts as none."""

ENTRY = re.compile(r"^- (\w+): (.*?)(?=\n- |\n\n|\Z)", re.DOTALL | re.MULTILINE)
"""An entry of a list in a docstring, such as "- eps: radius of the ball"."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A row: the dotted `name`, and `choice`, the names with which a key of one of several dataclasses goes.

    `range` is found by trying values: the dataclass is built with each, and with defaults for the rest.
    """

    name: str
    choice: str = ""
    type: str
    default: str
    range: str = ""
    meaning: str


def keys(cls: type) -> list[Key]:
    """The keys of `cls` in the order of its fields, those of nested dataclasses after their own key.

    A meaning is the string below the field, or else the entry "- key: meaning" of the class's docstring.

    Example:

        >>> from robustsabn.config.keys import keys
        >>> from robustsabn.trainers import TrainConfig
        >>> [(key.type, key.default, key.range) for key in keys(TrainConfig) if key.name == "attack.eps"]
        [('number', '8/255', '(0, 1]')]
    """
    merged: dict[Key, list[str]] = {}
    for key in _keys(cls, _instance(cls), "", ""):
        merged.setdefault(replace(key, choice=""), []).append(key.choice)
    return [replace(key, choice=", ".join(filter(None, names))) for key, names in merged.items()]


def written(value: object) -> str:
    """A value as one writes it in a recipe."""
    if value is None or isinstance(value, bool):
        return str(value).lower()  # none, true, false
    if isinstance(value, float):
        levels = value * 255
        fraction = levels >= 1 and abs(levels - round(levels)) < 1e-9 and round(value, 4) != value
        return f"{levels:.0f}/255" if fraction else f"{value:g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    return "{}" if value == {} else str(value)


def _keys(cls: type, default: Any, path: str, choice: str) -> Iterator[Key]:
    hints, said = get_type_hints(cls), _meanings(cls)
    for name, field in fields_of(cls).items():
        value, full = getattr(default, name, None), f"{path}{name}"
        registry, members = registry_of(field), _members(hints[name])
        nested = next((member for member in members if is_dataclass(member)), None)
        row = {"name": full, "choice": choice, "meaning": said.get(name, "")}
        if registry is not None:
            chosen = next(key for key, member in registry.items() if type(value) is member)
            yield Key(type="choice", default=chosen, range=", ".join(registry), **row)
            for key, member in registry.items():
                yield from _keys(member, _instance(member), f"{full}.", key)
        elif isinstance(nested, type):
            if value is None:
                yield Key(type="keys, or none", default="none", **row)
            yield from _keys(nested, value or _instance(nested), f"{full}.", choice)
        else:
            required = field.default is MISSING and field.default_factory is MISSING
            yield Key(
                type=_type(hints[name]),
                default="required" if required else written(value),
                range=_range(members, partial(_accepts, default, name), value),
                **row,
            )


def _instance(cls: type) -> Any:
    """`cls` with its defaults, and a text for what has none."""
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return cls(**dict.fromkeys(missing, "text"))


def _members(hint: Any) -> list[Any]:
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [member for member in members if member is not type(None)]


def _type(hint: Any) -> str:
    names = []
    for member in _members(hint):
        origin, args = get_origin(member), get_args(member)
        if origin is Literal:
            names.append("choice")
        elif origin is tuple:
            count = "" if args[-1] is Ellipsis else f"{len(args)} "
            names.append(f"list of {count}{'text' if args[0] is str else _type(args[0]) + 's'}")
        else:
            names.append(NAMES[member].removeprefix("a ") if member in NAMES else "mapping")
    return " or ".join(names) + (", or none" if type(None) in get_args(hint) else "")


def _range(members: list[Any], accepts: Callable[[Any], bool], default: Any) -> str:
    """The allowed values: names, or the interval around a value that is accepted."""
    names = [str(arg) for member in members if get_origin(member) is Literal for arg in get_args(member)]
    if names:
        return ", ".join(names)
    many = get_origin(members[0]) is tuple
    kind = get_args(members[0])[0] if many else members[0]
    if kind not in (int, float):
        return ""
    length = 1 if not many or default is None else len(default)
    inner: Callable[[Any], bool] = (lambda v: accepts((v,) * length)) if many else accepts
    tried = [default, 1, 0.5, 100] if not many else [1, 0.5, 0]
    start = next((v for v in tried if v is not None and inner(kind(v))), None)
    if start is None:
        return ""
    low, high = (_bound(inner, kind(start), kind(far), kind) for far in (-FAR, FAR))
    if low is None or high is None:
        closed = {True: ("≥", "≤"), False: (">", "<")}
        shown = [f"{closed[b[1]][side]} {written(b[0])}" for side, b in enumerate((low, high)) if b]
        return "".join(shown)
    left, right = "[" if low[1] else "(", "]" if high[1] else ")"
    return f"{left}{written(low[0])}, {written(high[0])}{right}"


def _bound(accepts: Callable[[Any], bool], good: Any, bad: Any, kind: type) -> tuple[Any, bool] | None:
    """The bound between an accepted and a refused value, and whether it is itself accepted."""
    if accepts(bad):
        return None
    for _ in range(100):
        middle = kind((good + bad) // 2 if kind is int else (good + bad) / 2)
        if middle in (good, bad):
            break
        good, bad = (middle, bad) if accepts(middle) else (good, middle)
    if kind is int:
        return (good, True) if accepts(good) and abs(good - bad) == 1 else (bad, False)
    bound = round((good + bad) / 2, 9) + 0.0  # no minus zero
    return bound, accepts(bound)


def _accepts(default: Any, name: str, value: Any) -> bool:
    try:
        replace(default, **{name: value})
    except ConfigError:
        return False
    return True


def _meanings(cls: type) -> dict[str, str]:
    """What is written about each field of `cls` and its bases: below the field, or in the docstring."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not is_dataclass(base):
            continue
        found |= dict(ENTRY.findall(inspect.cleandoc(base.__doc__ or "")))
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # made by a function
            continue
        (node,) = ast.parse(source).body
        assert isinstance(node, ast.ClassDef)
        for item, after in pairwise(node.body):
            if isinstance(item, ast.AnnAssign) and isinstance(after, ast.Expr):
                found[ast.unparse(item.target)] = ast.literal_eval(after.value)
    return {name: " ".join(f"{text[0].upper()}{text[1:]}".split()) for name, text in found.items()}
