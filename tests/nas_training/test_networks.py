"""The supernet of a run with the statistics of all processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from robustsabn.layers import RoutedBatchNorm
from robustsabn.nas import Cell
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.networks import build_supernet
from robustsabn.trainers.nas.search.step import SearchStep
from robustsabn.trainers.processes.distributed import accelerator


@pytest.mark.parametrize("norm", ["bn", "bn-affine", "ccbn", "sabn"])
def test_synchronised_norms_are_the_same_in_one_process(norm: Any) -> None:
    config = NasConfig(data="digits", norm=norm, channels=2, cells=1)
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    losses = []
    for sync in (False, True):
        network = build_supernet(config, 10, 1, seed=0, sync=sync)
        routed: list[Any] = [m for m in network.modules() if isinstance(m, RoutedBatchNorm)]
        norms: list[Any] = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        if sync:
            assert routed == norms
            assert all(layer.sync for layer in routed)
        run: Any = SimpleNamespace(config=config, accelerator=accelerator(True))
        bench = SearchStep(run, network, "darts")
        first = bench.weights_loss(0, 10, (x, y))
        second = bench.architecture_loss(0, 10, (x, y), (x, y), None)  # type: ignore[arg-type]
        z = bench.evaluated(Cell((3, 1, 2, 0, 4, 3))).logits(network, x)
        losses.append((first, second, z.detach()))
    torch.testing.assert_close(losses[0], losses[1])
