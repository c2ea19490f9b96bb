"""A small supernet in float64 and the step of a search on it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.models.nas import Supernet, supernet
from robustsabn.trainers.nas.search.step import SearchStep
from robustsabn.trainers.processes.distributed import accelerator

Make = Callable[..., SearchStep]


@pytest.fixture
def make() -> Make:
    """A step of a search by name on a supernet of 2 channels, 1 cell a stage and 3 classes."""

    def made(search: str, norm: str = "sabn", seed: int = 0, **options: Any) -> SearchStep:
        torch.manual_seed(seed)
        network = supernet(3, 2, norm=norm, channels=2, cells=1).double()
        network.architecture.data.mul_(500)  # deviation 0.5: weights that differ
        run: Any = SimpleNamespace(config=SimpleNamespace(seed=seed), accelerator=accelerator(True))
        return SearchStep(run, network, search, **options)

    return made


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    """One batch for the weights and one for the architecture."""
    source = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(6, 2, 6, 5, dtype=torch.float64, generator=source),
            torch.randint(3, (6,), generator=source),
        )
        for _ in range(2)
    ]


@pytest.fixture
def network(make: Make) -> Supernet:
    return make("darts").supernet
