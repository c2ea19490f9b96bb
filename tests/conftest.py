"""Every test has the same seed, one thread unless OMP_NUM_THREADS says more, and registers no method.

The smallest run is trained once; `ended` is a copy of it.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from robustsabn.trainers import train
from robustsabn.trainers.methods import METHODS
from tests.helpers.runs import TINY


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    torch.manual_seed(0)
    with patch.dict(METHODS):
        yield


def pytest_configure() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session")
def ended_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the smallest run, to be looked at and not touched."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    train({**TINY, "out": str(folder)})
    return folder


@pytest.fixture
def ended(ended_once: Path, tmp_path: Path) -> Path:
    """A copy of the folder of the smallest run, `run` in `tmp_path`."""
    return Path(shutil.copytree(ended_once, tmp_path / "run"))
