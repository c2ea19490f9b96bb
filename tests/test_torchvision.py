"""The import of torchvision tolerates exactly one failure, and nothing goes around it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustsabn import _torchvision
from tests.helpers import ROOT


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `torchvision` whose import of its registrations can be made to fail."""
    genuine = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torchvision"}
    for name in genuine:
        del sys.modules[name]
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations, datasets\n")
    (package / "datasets.py").write_text("here = True\n")
    (package / "_meta_registrations.py").write_text("complete = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules.update(genuine)


def test_a_matching_wheel_is_imported_as_it_is(fake: Path) -> None:
    assert _torchvision.load("torchvision.datasets").here
    assert _torchvision.load()._meta_registrations.complete


def test_missing_operators_are_tolerated(fake: Path) -> None:
    (fake / "_meta_registrations.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    assert _torchvision.load("torchvision.datasets").here
    assert not hasattr(_torchvision.load()._meta_registrations, "complete")


@pytest.mark.parametrize(
    "failure",
    [
        "RuntimeError('operator aten::nms does not exist')",
        "RuntimeError('operator torchvision::nms does not exist, nor does torch')",
        "ImportError('operator torchvision::nms does not exist')",
    ],
)
def test_every_other_failure_is_passed_on(fake: Path, failure: str) -> None:
    (fake / "_meta_registrations.py").write_text(f"raise {failure}")
    with pytest.raises((RuntimeError, ImportError), match="operator"):
        _torchvision.load()


def test_the_installed_torchvision_loads() -> None:
    assert hasattr(_torchvision.load("torchvision.models"), "get_model")


def test_no_other_file_imports_torchvision() -> None:
    for top in ("robustsabn", "attacks", "trainers", "tests", "benchmarks", "examples"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.split(".")[0] == "torchvision" for name in names), path
