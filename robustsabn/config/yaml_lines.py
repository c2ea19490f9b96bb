"""A strict reader of YAML 1.2: safe tags only, no duplicate keys, with file and line of every key."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from robustsabn.errors import ConfigError
from robustsabn.text import one_line, quote, shorten

__all__ = ["YamlMapping", "parse", "place_of", "read"]

MOST_VALUES = 10_000
"""More than any configuration needs, but few enough to show and compare."""

# besides its own errors, PyYAML may raise these for a file that is not YAML
_WRONG = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class YamlMapping(dict[Any, Any]):
    """A mapping from a YAML file; `places` has "file:line" of every key."""

    def __init__(self, values: Mapping[Any, Any], places: dict[Any, str]) -> None:
        super().__init__(values)
        self.places = places


def read(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file."""
    try:
        raw = _load(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ConfigError:
        raise
    except _WRONG as error:
        raise ConfigError(f"{path}: not valid YAML, correct it: {_reason(error)}") from None
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: a configuration maps keys to values, this file holds {quote(raw)}")
    return raw


def parse(text: str, key: str) -> Any:
    """The value of a piece of YAML that was written for `key`.

    A line that begins with | is text, such as the architecture of a cell: a block of YAML has more lines.
    """
    if text.startswith("|") and len(text.splitlines()) == 1:
        return str(text)
    try:
        return _load(text, "override")
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    except _WRONG:
        raise ConfigError(f"{key}: cannot read {quote(text)} as a value; quote it as YAML asks") from None


def place_of(raw: Mapping[str, Any], key: str, otherwise: str) -> str:
    """The place where `key` was written, or `otherwise` if it is unknown."""
    return raw.places.get(key, otherwise) if isinstance(raw, YamlMapping) else otherwise


class _Loader(yaml.SafeLoader):
    # without the YAML 1.1 forms of numbers in base 60, dates, and yes, no, on, off
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_PLAIN = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", "~nN"),
    "merge": (r"<<", "<"),
}
for _tag, (_pattern, _first) in _PLAIN.items():
    _starts = [*_first, ""] if _tag == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _starts)


def _load(text: str, name: str) -> Any:
    loader = _Loader(text)
    loader.name = name
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MOST_VALUES:
            raise ConfigError(f"more than {MOST_VALUES} values ({name}); write fewer, or fewer aliases")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values in a node when all aliases are expanded."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # a node that contains itself is infinite
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    return " ".join(str(error).split())[:200] if isinstance(error, yaml.YAMLError) else one_line(error)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> YamlMapping:
    written: set[Hashable] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            place = f"{loader.name}:{key.start_mark.line + 1}"
            raise ConfigError(f"a key must be a name, not a list or mapping ({place})")
        if key.value in written:
            place = f"{loader.name}:{key.start_mark.line + 1}"
            raise ConfigError(f"{shorten(key.value)}: written twice in one mapping ({place}); keep one")
        written.add(key.value)
    loader.flatten_mapping(node)
    values, places = {}, {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        values[key] = loader.construct_object(value_node, deep=True)
        places[key] = f"{loader.name}:{key_node.start_mark.line + 1}"
    return YamlMapping(values, places)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
