"""Configuration: nested frozen dataclasses, filled from defaults, a YAML file or recipe, and overrides.

Later sources override earlier ones. A dataclass defines everything: its fields are the allowed keys, their
annotations the allowed values (`int`, `float`, `bool`, `str`, `Literal`, `X | None`, `tuple[X, ...]`,
`tuple[X, Y]`, `dict[str, X]`, other dataclasses). Its `__post_init__` checks ranges by raising
`ConfigError("eps must be positive, got -1")`; the loader adds the dotted path. A field that is one of several
dataclasses names its registry, and is then chosen by `name`:

    method: Method = field(default_factory=Pgd, metadata=choices({"pgd": Pgd, "trades": Trades}))

This reads `method: trades`, `method: {name: trades, beta: 5}` and the overrides `method=trades
method.beta=5`. A new name starts from the defaults of its dataclass. A registry may find further names by
`__missing__`, stores them, and describes them in `also`. In a union of plain types, the first type that fits
is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robustsabn.config.build import Layer, Registry, Text, build, fields_of, name_of, number, registry_of
from robustsabn.config.recipes import recipes
from robustsabn.config.yaml_lines import read
from robustsabn.errors import ConfigError
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote, shorten

__all__ = ["Overrides", "choices", "dump", "listed", "load", "number", "read_mapping", "recipes", "to_dict"]

T = TypeVar("T")
Overrides = Sequence[str | Mapping[str, Any]] | Mapping[str, Any]


def load(
    cls: type[T], given: str | Path | Mapping[str, Any] | T | None = None, overrides: Overrides = ()
) -> T:
    """Build `cls` from a YAML file, a recipe's name, a mapping or an instance, and overrides.

    Overrides are a mapping such as {"attack.eps": 8 / 255}, or a list of text such as "attack.eps=8/255" and
    of mappings. Raises ConfigError for an unknown key, a wrong type, a
    missing value, and for values that the dataclasses reject.
    """
    if isinstance(given, (str, Path)):
        given = read_mapping(given)
    if given is not None and not isinstance(given, (cls, Mapping)):
        kind = type(given).__name__
        raise ConfigError(f"a configuration is a file, a recipe, a mapping or {cls.__name__}, not {kind}")
    base = given if isinstance(given, cls) else None
    layers: list[Layer] = [(given, "")] if isinstance(given, Mapping) else []
    for one in listed(overrides):
        layers += _layers(one)
    built: T = build(cls, base, layers, "")
    return built


def listed(overrides: Overrides) -> list[str | Mapping[str, Any]]:
    """Overrides as a list, each text or a mapping; ConfigError if they are neither."""
    if isinstance(overrides, Mapping):
        return [overrides]
    if isinstance(overrides, (str, bytes)) or not isinstance(overrides, Sequence):
        raise ConfigError(
            f"overrides are {quote(overrides)}; give {{'attack.eps': 8 / 255}} or ['attack.eps=8/255']"
        )
    return list(overrides)


def read_mapping(config: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The keys and values of a YAML file, a recipe (by name) or a mapping, as written."""
    if isinstance(config, (str, Path)):
        return read(_find(config))
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(f"a configuration is a file, a recipe or a mapping, not {type(config).__name__}")
    return config or {}


def to_dict(config: object) -> dict[str, Any]:
    """The configuration as plain dictionaries and lists, which `load` can read."""
    return {f.name: _plain(getattr(config, f.name), registry_of(f)) for f in fields_of(type(config)).values()}


def dump(config: object) -> str:
    """The configuration as YAML text, which `load` reads back to an equal configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def choices(registry: Registry) -> dict[str, Registry]:
    """Metadata of a field whose value is one of the dataclasses of `registry`, chosen by its name."""
    return {"choices": registry}


def _layers(override: str | Mapping[str, Any]) -> list[Layer]:
    if isinstance(override, Mapping):
        return [(_tree(str(key), value), "") for key, value in override.items()]
    return [(_override(override), f"override {shorten(override)}")]


def _override(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise ConfigError(f"{quote(text)} is not an override; write key=value, for example attack.eps=8/255")
    key, equals, value = text.partition("=")
    if not equals or not all(part.isidentifier() for part in key.split(".")):
        raise ConfigError(f"{quote(text)} is not an override; write key=value, for example attack.eps=8/255")
    return _tree(key, Text(value))


def _tree(key: str, value: Any) -> dict[str, Any]:
    """Nested mappings for a dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    tree: dict[str, Any] = value
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


def _plain(value: Any, registry: Registry | None = None) -> Any:
    if is_dataclass(value):
        name = name_of(registry or {}, type(value))
        return to_dict(value) if name is None else {"name": name, **to_dict(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
