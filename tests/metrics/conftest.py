"""The digits classifiers are trained once for all tests here."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from robustsabn.data import Data, load


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache folder of all tests here."""
    folder = tmp_path_factory.mktemp("cache")
    with patch.dict("os.environ", {"ROBUSTSABN_CACHE": str(folder)}):
        yield folder


@pytest.fixture(scope="session")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="session")
def noisy(digits: Data) -> tuple[Tensor, Tensor]:
    """1,000 training digits with noise added, and their labels."""
    x, y = digits.train.batch(torch.arange(1000))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + 0.2 * noise).clamp(0, 1), y
