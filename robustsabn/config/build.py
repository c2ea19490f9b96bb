"""Builds dataclasses from mappings, which are merged and then converted to the annotated types."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from robustsabn.config.messages import fail, join, mismatch, show, source, unknown
from robustsabn.config.yaml_lines import parse, place_of
from robustsabn.errors import ConfigError
from robustsabn.scalars import LARGEST
from robustsabn.text import nearest, spelled

__all__ = ["Layer", "Registry", "Text", "build", "fields_of", "name_of", "number", "registry_of"]

SWITCH = {"yes": True, "on": True, "no": False, "off": False}

Registry = Mapping[str, type]


class Text(str):
    """The value of an override, converted to the type of its field, so that `out=123` stays text."""


Layer = tuple[Any, str]
"""A value as written and its location; later layers of a key override earlier ones."""


def build(cls: type, base: Any, layers: Sequence[Layer], path: str) -> Any:
    """Build `cls` from `base` or its defaults, with the values in the mappings of `layers`."""
    known, hints = fields_of(cls), get_type_hints(cls)
    written: dict[str, list[Layer]] = {}
    for raw, where in layers:
        for key, value in raw.items():
            place = place_of(raw, key, where)
            if key not in known:
                unknown(cls, key, join(path, key), place)
            written.setdefault(key, []).append((value, place))
    if base is not None and not written:
        return base
    values = {} if base is None else {key: getattr(base, key) for key in known}
    for key, own in written.items():
        old = values[key] if key in values else _default(known[key])
        values[key] = _convert(hints[key], own, old, registry_of(known[key]), join(path, key))
    for key, field in known.items():
        if key not in values and field.default is MISSING and field.default_factory is MISSING:
            fail(join(path, key), "has no default: give a value", "")
    try:
        return cls(**values)
    except ConfigError as error:
        message = str(error)
        key_in_error = message.split(" ", 1)[0].strip(":,'\"")
        message = join(path, message) if key_in_error in known or not path else f"{path}: {message}"
        place = written[key_in_error][-1][1] if key_in_error in written else ""
        raise ConfigError(message + source(place)) from None


def _convert(hint: Any, layers: Sequence[Layer], old: Any, registry: Registry | None, at: str) -> Any:
    """The value of the last layer in the type `hint`; mappings of all layers are merged into `old`."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(None) in members:
        is_none = [value is None or _is_none(value, members, registry) for value, _ in layers]
        if is_none[-1]:
            return None
        if any(is_none):  # earlier layers are discarded
            layers, old = layers[len(is_none) - is_none[::-1].index(True) :], None
    if registry is not None:
        return _choose(registry, layers, old, at)
    members = tuple(member for member in members if member is not type(None))
    if len(members) == 1:
        return _convert_one(members[0], layers, old, at)
    value, place = layers[-1]
    for member in members:
        if isinstance(value, Mapping) and is_dataclass(member):
            return _convert_one(member, layers, old, at)
        try:
            return _convert_one(member, layers, old, at)
        except ConfigError:
            continue
    mismatch(hint, value, at, place)


def _convert_one(hint: Any, layers: Sequence[Layer], old: Any, at: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is dict:
        return _items_of(hint, layers, old, at)
    if isinstance(hint, type) and is_dataclass(hint):
        return _nested(hint, layers, old, at)
    value, place = layers[-1]
    if isinstance(value, str) and (hint is str or (origin is Literal and value in args)):
        return str(value)
    value = _read(value, at)
    if hint is Any or (hint is bool and isinstance(value, bool)):
        return value
    if hint is bool and isinstance(value, str) and value.lower() in SWITCH:
        return SWITCH[value.lower()]
    if hint is int or hint is float:
        parsed = number(value)
        if parsed is not None and (hint is float or (parsed == parsed // 1 and abs(parsed) <= LARGEST)):
            return hint(parsed)
    elif origin is Literal:
        if any(value == allowed and type(value) is type(allowed) for allowed in args):
            return value
        if (name := spelled(value, [allowed for allowed in args if isinstance(allowed, str)])) is not None:
            return name
    elif origin is tuple:
        items = _items(value)
        if items is not None and (args[-1] is Ellipsis or len(items) == len(args)):
            kinds = [args[0]] * len(items) if args[-1] is Ellipsis else args
            return tuple(
                _convert(kind, [(item, place)], None, None, f"{at}[{i}]")
                for i, (kind, item) in enumerate(zip(kinds, items, strict=True))
            )
    mismatch(hint, value, at, place)


def _items_of(hint: Any, layers: Sequence[Layer], old: Any, at: str) -> dict[str, Any]:
    """A dictionary: the keys of all layers merged into `old`."""
    kind, merged = get_args(hint)[1], dict(old) if isinstance(old, dict) else {}
    for value, place in layers:
        value = _read(value, at)
        if not isinstance(value, Mapping):
            mismatch(hint, value, at, place)
        merged |= {
            key: _convert(kind, [(item, place)], None, None, join(at, key)) for key, item in value.items()
        }
    return merged


def _nested(cls: type, layers: Sequence[Layer], old: Any, at: str) -> Any:
    base, mappings = old if type(old) is cls else None, list[Layer]()
    for value, place in layers:
        value = _read(value, at)
        if isinstance(value, cls):
            base, mappings = value, []
        elif isinstance(value, Mapping):
            mappings.append((value, place))
        else:
            mismatch(cls, value, at, place)
    return build(cls, base, mappings, at)


def _choose(registry: Registry, layers: Sequence[Layer], old: Any, at: str) -> Any:
    """One of the dataclasses of `registry`; a new name starts from the defaults of its dataclass."""
    allowed = ", ".join([*registry, *getattr(registry, "also", ())])
    base, mappings = old if is_dataclass(old) else None, list[Layer]()
    cls: Any = None if base is None else type(base)
    for value, place in layers:
        if type(value) in registry.values():
            base, cls, mappings = value, type(value), []
            continue
        if isinstance(value, Text) and value not in registry:
            value = parse(value, at)
        mapping = {"name": str(value)} if isinstance(value, str) else value
        if not isinstance(mapping, Mapping):
            fail(at, f"expected a name or a mapping with one, got {show(mapping)}; names: {allowed}", place)
        name = mapping.get("name", cls and name_of(registry, cls))
        if name is None:
            fail(at, f"the name is missing; names: {allowed}", place)
        chosen = _look_up(registry, name, join(at, "name"), place_of(mapping, "name", place), allowed)
        if chosen is not cls:
            base, cls, mappings = None, chosen, []
        for key, item in mapping.items():
            if key == "name":
                continue
            where = place_of(mapping, key, place)
            if key not in fields_of(cls):  # checked now: a later layer may choose another name
                unknown(cls, key, join(at, key), where)
            mappings.append(({key: item}, where))
    return build(cls, base, mappings, at)


def _read(value: Any, at: str) -> Any:
    """The value of an override, parsed as YAML if its field is not text."""
    return parse(value, at) if isinstance(value, Text) else value


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
            f"{show(name)} is {cls.__name__}, which is no dataclass; put @dataclass(frozen=True) right "
            "above it",
            place,
        )
    return cls


def name_of(registry: Registry, cls: type) -> str | None:
    """The name of `cls` in the registry, the last one if it has several."""
    return next((key for key in reversed(list(registry)) if registry[key] is cls), None)


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


def _items(value: Any) -> list[Any] | None:
    """The items of a list, which may also be written as "a,b" or as a single item."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, (list, tuple)):
        return list(value)
    return None if value is None or isinstance(value, Mapping) else [value]


def _is_none(value: Any, members: tuple[Any, ...], registry: Registry | None) -> bool:
    own = {text for member in members if get_origin(member) is Literal for text in get_args(member)}
    return isinstance(value, str) and value in {"none", "null", ""} - own - set(registry or ())


def fields_of(cls: type) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cls) if field.init}


def registry_of(field: Field[Any]) -> Registry | None:
    registry: Registry | None = field.metadata.get("choices")
    return registry


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
