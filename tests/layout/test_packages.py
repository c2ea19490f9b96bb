"""The packages listed in pyproject are the folders that exist, and no folder grows past what an eye takes in."""

import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("top", ["robustsabn", "attacks", "trainers", "configs"])
def test_no_folder_has_more_than_15_files(top: str) -> None:
    files = [
        path for path in (ROOT / top).rglob("*") if path.suffix not in (".pyc", "") or path.name == "py.typed"
    ]
    count = Counter(path.parent.relative_to(ROOT).as_posix() for path in files)
    assert {folder: n for folder, n in count.items() if n > 15} == {}
