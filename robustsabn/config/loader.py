"""Configuration: nested frozen dataclasses, filled in the order defaults < YAML file or recipe < dotted overrides.

A dataclass is the single truth: its fields are the allowed keys, their annotations the allowed values (`int`, `float`,
`bool`, `str`, `Literal`, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, other dataclasses), and its
`__post_init__` checks ranges by raising `ConfigError("eps must be positive, got -1")`, to which the loader adds the
dotted place. A field that is one of several dataclasses names its registry, and is then chosen by `name`:

    method: Method = field(default_factory=Pgd, metadata=choices({"pgd": Pgd, "trades": Trades}))

which reads `method: trades`, `method: {name: trades, beta: 5}` and the overrides `method=trades method.beta=5`.
Another name starts from that dataclass's own defaults. A registry may find more by `__missing__`, keeps that, and
describes it in `also`. In a union of plain types the first that fits is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from robustsabn.config.messages import fail, join, mismatch, show, source, unknown
from robustsabn.config.recipes import recipes
from robustsabn.config.yaml_lines import parse, place_of, read
from robustsabn.errors import ConfigError
from robustsabn.paths import given_path
from robustsabn.scalars import LARGEST
from robustsabn.text import nearest, quote, shorten

__all__ = ["choices", "dump", "load", "number", "read_mapping", "recipes", "to_dict"]

T = TypeVar("T")
SWITCH = {"yes": True, "on": True, "no": False, "off": False}
Registry = Mapping[str, type]


def load(
    cls: type[T], given: str | Path | Mapping[str, Any] | T | None = None, overrides: Sequence[str] = ()
) -> T:
    """Build `cls` from a YAML file, a recipe's name, a mapping or an instance, and overrides like "attack.eps=8/255".

    Raises ConfigError for an unknown key, a wrong type, a missing value or whatever the dataclasses refuse.
    """
    node = _Node(cls, {}, {})
    if isinstance(given, (str, Path)):
        given = read_mapping(given)
    if isinstance(given, cls):
        node = _explode(given)
    elif isinstance(given, Mapping):
        _overlay(node, given, "", "")
    elif given is not None:
        kind = type(given).__name__
        raise ConfigError(f"a configuration is a file, a recipe, a mapping or {cls.__name__}, not {kind}")
    if isinstance(overrides, (str, bytes)) or not isinstance(overrides, Sequence):
        raise ConfigError(f"overrides are {quote(overrides)}; give a list such as ['attack.eps=8/255']")
    for text in overrides:
        _overlay(node, _override(text), "", f"override {shorten(text)}")
    built: T = _construct(node, "")
    return built


def read_mapping(given: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The keys and values that a YAML file, a recipe's name or a mapping gives, as they are written."""
    if isinstance(given, (str, Path)):
        return read(_find(given))
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"a configuration is a file, a recipe or a mapping, not {type(given).__name__}")
    return given or {}


def to_dict(config: object) -> dict[str, Any]:
    """The configuration as plain dictionaries and lists that `load` reads back."""
    return {f.name: _plain(getattr(config, f.name), _registry(f)) for f in _fields(type(config)).values()}


def dump(config: object) -> str:
    """The configuration as YAML text that `load` reads back to an equal one."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def number(value: Any) -> int | float | None:
    """A finite number, also written as "8/255" or "1e-3"; None for anything else."""
    if isinstance(value, str):
        top, slash, bottom = value.partition("/")
        try:
            value = float(top) / float(bottom) if slash else float(top)
        except (ValueError, ZeroDivisionError):
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else None
    return value if math.isfinite(value) else None


def choices(registry: Registry) -> dict[str, Registry]:
    """Metadata of a field whose value is one of the dataclasses of `registry`, chosen by its name."""
    return {"choices": registry}


@dataclass
class _Node:
    """A configuration under construction: converted values, and where each was written."""

    cls: type
    values: dict[str, Any]
    places: dict[str, str]


class _Text(str):
    """An override's value: read as the field's type asks, so that `out=123` stays text."""


def _overlay(node: _Node, raw: Mapping[str, Any], path: str, where: str) -> None:
    known, hints = _fields(node.cls), get_type_hints(node.cls)
    for key, value in raw.items():
        at, place = join(path, key), place_of(raw, key, where)
        if key not in known:
            unknown(node.cls, key, at, place)
        old = node.values[key] if key in node.values else _default(known[key])
        node.values[key] = _convert(hints[key], value, old, _registry(known[key]), at, place)
        node.places[key] = place


def _construct(node: Any, path: str) -> Any:
    if isinstance(node, tuple):
        return tuple(_construct(item, f"{path}[{i}]") for i, item in enumerate(node))
    if isinstance(node, dict):
        return {key: _construct(item, join(path, key)) for key, item in node.items()}
    if not isinstance(node, _Node):
        return node
    known = _fields(node.cls)
    for key, field in known.items():
        if key not in node.values and field.default is MISSING and field.default_factory is MISSING:
            fail(join(path, key), "has no default: give a value", "")
    values = {key: _construct(value, join(path, key)) for key, value in node.values.items()}
    try:
        return node.cls(**values)
    except ConfigError as error:
        message = str(error)
        named = message.split(" ", 1)[0].strip(":,'\"")
        message = join(path, message) if named in known or not path else f"{path}: {message}"
        raise ConfigError(message + source(node.places.get(named, ""))) from None


def _convert(hint: Any, value: Any, old: Any, registry: Registry | None, at: str, place: str) -> Any:
    """The value as `hint` asks: a leaf, or a `_Node` (laid over `old`) where a dataclass is due."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(None) in members and (value is None or _says_none(value, members, registry)):
        return None
    if registry is not None:
        return _choose(registry, value, old, at, place)
    members = tuple(member for member in members if member is not type(None))
    if len(members) == 1:
        return _convert_one(members[0], value, old, at, place)
    for member in members:
        if isinstance(value, Mapping) and is_dataclass(member):
            return _convert_one(member, value, old, at, place)
        try:
            return _convert_one(member, value, old, at, place)
        except ConfigError:
            continue
    mismatch(hint, value, at, place)


def _convert_one(hint: Any, value: Any, old: Any, at: str, place: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(value, str) and (hint is str or (origin is Literal and value in args)):
        return str(value)
    if isinstance(value, _Text):
        value = parse(value, at)
    if hint is Any or (hint is bool and isinstance(value, bool)):
        return value
    if hint is bool and isinstance(value, str) and value.lower() in SWITCH:
        return SWITCH[value.lower()]
    if hint is int or hint is float:
        found = number(value)
        if found is not None and (hint is float or (found == found // 1 and abs(found) <= LARGEST)):
            return hint(found)
    elif origin is Literal:
        if any(value == allowed and type(value) is type(allowed) for allowed in args):
            return value
    elif origin is tuple:
        items = _items(value)
        if items is not None and (args[-1] is Ellipsis or len(items) == len(args)):
            kinds = [args[0]] * len(items) if args[-1] is Ellipsis else args
            return tuple(
                _convert(kind, item, None, None, f"{at}[{i}]", place)
                for i, (kind, item) in enumerate(zip(kinds, items, strict=True))
            )
    elif origin is dict and isinstance(value, Mapping):
        new = {key: _convert(args[1], item, None, None, join(at, key), place) for key, item in value.items()}
        return {**(old if isinstance(old, dict) else {}), **new}
    elif isinstance(hint, type) and is_dataclass(hint):
        if isinstance(value, hint):
            return _explode(value)
        if isinstance(value, Mapping):
            node = _copy(old) if isinstance(old, _Node) and old.cls is hint else _Node(hint, {}, {})
            _overlay(node, value, at, place)
            return node
    mismatch(hint, value, at, place)


def _choose(registry: Registry, value: Any, old: Any, at: str, place: str) -> _Node:
    if type(value) in registry.values():
        return _explode(value)
    if isinstance(value, _Text) and value not in registry:
        value = parse(value, at)
    given = {"name": str(value)} if isinstance(value, str) else value
    allowed = ", ".join([*registry, *getattr(registry, "also", ())])
    if not isinstance(given, Mapping):
        fail(at, f"expected a name or a mapping with one, got {show(value)}; names: {allowed}", place)
    name = given.get("name", _name_of(registry, old.cls) if isinstance(old, _Node) else None)
    if name is None:
        fail(at, f"the name is missing; names: {allowed}", place)
    cls = _look_up(registry, name, join(at, "name"), place_of(given, "name", place), allowed)
    node = _copy(old) if isinstance(old, _Node) and old.cls is cls else _Node(cls, {}, {})
    for key in given:
        if key != "name":
            _overlay(node, {key: given[key]}, at, place_of(given, key, place))
    return node


def _look_up(registry: Registry, name: Any, at: str, place: str, allowed: str) -> type:
    try:
        cls: type | None = registry[name] if isinstance(name, str) else None
    except KeyError:
        cls = None
    except ConfigError as error:
        fail(at, str(error), place)
    if cls is None:
        fail(at, f"{show(name)} is unknown{nearest(name, registry)}; allowed: {allowed}", place)
    if not is_dataclass(cls):
        fail(
            at,
            f"{show(name)} is {cls.__name__}, which is no dataclass; put @dataclass(frozen=True) right above it",
            place,
        )
    return cls


def _name_of(registry: Registry, cls: type) -> str | None:
    """The name of `cls`, the last one where it has several."""
    return next((key for key in reversed(list(registry)) if registry[key] is cls), None)


def _override(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise ConfigError(f"{quote(text)} is not an override; write key=value, for example attack.eps=8/255")
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{quote(text)} is not an override; write key=value, for example attack.eps=8/255")
    tree: dict[str, Any] = {parts[-1]: _Text(value)}
    for part in reversed(parts[:-1]):
        tree = {part: tree}
    return tree


def _find(name: str | Path) -> Path:
    known, path = recipes(), given_path(name, "the configuration", ConfigError)
    if str(name) in known:
        return known[str(name)]
    if path.is_file():
        return path
    if path.is_dir():
        own = path / "config.yaml"
        raise ConfigError(
            f"{path} is a folder; give a file, such as {own}, which continues that run with --resume"
        )
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(
            f"{path}: no such file; give a YAML file or a recipe (`robustsabn recipes` lists them)"
        )
    raise ConfigError(f"no recipe {quote(str(name))}{nearest(name, known)}; `robustsabn recipes` lists them")


def _items(value: Any) -> list[Any] | None:
    """The items of a list, also written as "a,b" or as one item alone."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, (list, tuple)):
        return list(value)
    return None if value is None or isinstance(value, Mapping) else [value]


def _says_none(value: Any, members: tuple[Any, ...], registry: Registry | None) -> bool:
    own = {text for member in members if get_origin(member) is Literal for text in get_args(member)}
    return isinstance(value, str) and value in {"none", "null", ""} - own - set(registry or ())


def _fields(cls: type) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cls) if field.init}


def _registry(field: Field[Any]) -> Registry | None:
    registry: Registry | None = field.metadata.get("choices")
    return registry


def _default(field: Field[Any]) -> Any:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return _explode(value) if is_dataclass(value) else value


def _explode(config: Any) -> _Node:
    values = {name: getattr(config, name) for name in _fields(type(config))}
    return _Node(type(config), {k: _explode(v) if is_dataclass(v) else v for k, v in values.items()}, {})


def _copy(node: _Node) -> _Node:
    return _Node(node.cls, dict(node.values), dict(node.places))


def _plain(value: Any, registry: Registry | None = None) -> Any:
    if is_dataclass(value):
        name = _name_of(registry or {}, type(value))
        return to_dict(value) if name is None else {"name": name, **to_dict(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
