"""Every test has the same seed, one thread unless OMP_NUM_THREADS says more, and registers no method."""

import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch

from robustsabn.trainers.methods import METHODS


@pytest.fixture(autouse=True)
def _alike() -> Iterator[None]:
    torch.manual_seed(0)
    with patch.dict(METHODS):
        yield


def pytest_configure() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
