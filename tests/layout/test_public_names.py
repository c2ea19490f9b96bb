"""`import robustsabn` is enough to reach everything public, and loads no torch by itself."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import robustsabn
from tests.helpers import ROOT


@pytest.mark.parametrize("name", ["attacks", "data", "metrics", "models", "trainers"])
def test_a_package_is_reached_from_the_top(name: str) -> None:
    code = f"import robustsabn\nprint(robustsabn.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"robustsabn.{name}\n"


def test_naming_train_loads_no_torch() -> None:
    code = "import robustsabn, sys\nrobustsabn.train, robustsabn.trainers\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["robustsabn", "robustsabn.trainers"])
def test_dir_shows_the_public_names_alone(name: str) -> None:
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)
    for public in module.__all__:
        assert (
            isinstance(getattr(module, public), ModuleType)
            or callable(getattr(module, public))
            or public == "__version__"
        )


def test_train_is_that_of_trainers() -> None:
    from robustsabn.trainers import train

    assert robustsabn.train is train
