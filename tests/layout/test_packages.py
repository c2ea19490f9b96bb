"""The packages listed in pyproject are the folders that exist, and no folder has more than 15 files."""

import re
import sys
from collections import Counter

import pytest

from tests.helpers import ROOT


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_every_package_folder_is_listed() -> None:
    import tomllib

    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(setuptools["packages"])
    found = {"robustsabn.configs"}
    for top in ("robustsabn", "attacks", "trainers"):
        for init in (ROOT / top).rglob("__init__.py"):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            found.add(name if top == "robustsabn" else f"robustsabn.{name}")
    assert listed == found


@pytest.mark.parametrize("top", ["robustsabn", "attacks", "trainers", "configs", "tests"])
def test_no_folder_has_more_than_15_files(top: str) -> None:
    files = [
        path for path in (ROOT / top).rglob("*") if path.suffix not in (".pyc", "") or path.name == "py.typed"
    ]
    count = Counter(path.parent.relative_to(ROOT).as_posix() for path in files)
    assert {folder: n for folder, n in count.items() if n > 15} == {}


def test_no_test_imports_another_and_every_room_is_a_package() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        imported = re.findall(
            r"^ *(?:from|import) +((?:tests|\.)[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert [name for name in imported if not f"{name}.".startswith("tests.helpers.")] == [], path
        assert (path.parent / "__init__.py").is_file(), path
