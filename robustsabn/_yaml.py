"""YAML read strictly: safe tags only, no duplicate keys, and the file and line of every key remembered."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from robustsabn.errors import ConfigError
from robustsabn.text import quote

__all__ = ["YamlMapping", "parse", "place_of", "read"]


class YamlMapping(dict[Any, Any]):
    """A mapping of a YAML file; `places` holds "file:line" of every key."""

    def __init__(self, values: Mapping[Any, Any], places: dict[Any, str]) -> None:
        super().__init__(values)
        self.places = places


def read(path: Path) -> Mapping[str, Any]:
    """The mapping that a YAML file holds."""
    try:
        raw = _load(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML, correct it: {' '.join(str(error).split())}") from None
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: a configuration maps keys to values, this file holds {quote(raw)}")
    return raw


def parse(text: str, key: str) -> Any:
    """The value that a piece of YAML, given for `key`, stands for."""
    try:
        return _load(text, "override")
    except yaml.YAMLError:
        raise ConfigError(f"{key}: cannot read {quote(text)} as a value; quote it as YAML asks") from None


def place_of(raw: Mapping[str, Any], key: str, otherwise: str) -> str:
    """Where `key` was written."""
    return raw.places.get(key, otherwise) if isinstance(raw, YamlMapping) else otherwise


class _Loader(yaml.SafeLoader):
    pass


def _load(text: str, name: str) -> Any:
    loader = _Loader(text)
    loader.name = name
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _mapping(loader: _Loader, node: yaml.MappingNode) -> YamlMapping:
    written: set[Hashable] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            place = f"{loader.name}:{key.start_mark.line + 1}"
            raise ConfigError(f"a key must be a name, not a list or mapping ({place})")
        if key.value in written:
            place = f"{loader.name}:{key.start_mark.line + 1}"
            raise ConfigError(f"{key.value}: written twice in one mapping ({place}); keep one")
        written.add(key.value)
    loader.flatten_mapping(node)
    values, places = {}, {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        values[key] = loader.construct_object(value_node, deep=True)
        places[key] = f"{loader.name}:{key_node.start_mark.line + 1}"
    return YamlMapping(values, places)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
