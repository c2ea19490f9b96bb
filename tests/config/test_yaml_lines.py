"""YAML 1.2: what looks like text is text, and no small file stands for a huge one."""

from pathlib import Path
from typing import Any

import pytest

from robustsabn.config import number
from robustsabn.config import yaml_lines as _yaml
from robustsabn.errors import ConfigError


def value(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n", encoding="utf-8")
    return _yaml.read(path)["key"]


@pytest.mark.parametrize(
    "text",
    [
        "1:30",
        "12:30:45",
        "190:20:30.15",
        "2026-01-01",
        "2026-01-01T12:00:00Z",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "1_000",
        "0b11",
        "8/255",
        "1.2.3",
        "+",
        ".",
        "e3",
        "=",
        "0x",
        "0o9",
    ],
)
def test_it_is_text(text: str, tmp_path: Path) -> None:
    assert value(tmp_path, text) == text
    assert _yaml.parse(text, "key") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        (".inf", float("inf")),
    ],
)
def test_it_is_a_value(text: str, expected: object, tmp_path: Path) -> None:
    found = value(tmp_path, text)
    assert found == expected
    assert type(found) is type(expected)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", [BOMB, MERGES, "a: &a [*a]", "a: &a {b: *a}", "a: [" + "1," * 20_000 + "]"])
def test_more_values_than_a_configuration_has_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="more than 10000 values"):
        _yaml.read(path)


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "!!int abc", "!!float abc", "!!bool 3", "!!timestamp x", "!!binary é", "9" * 5000, "*a"],
)
def test_what_is_no_value_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as of_a_file:
        value(tmp_path, text)
    with pytest.raises(ConfigError) as of_an_override:
        _yaml.parse(text, "key")
    for caught in (of_a_file, of_an_override):
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_numbers_beyond_64_bits_are_none() -> None:
    assert number(2**63 - 1) == 2**63 - 1
    assert number(2**63) is number(10**400) is number("1e400") is number("nan") is number("1:30") is None
