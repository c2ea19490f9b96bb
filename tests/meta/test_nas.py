"""One step of a search on a device without values: both losses, routes, updates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from robustsabn.models.nas import supernet
from robustsabn.trainers.config import Constant, Sgd
from robustsabn.trainers.loop.updates import Update
from robustsabn.trainers.nas.search import step as search
from robustsabn.trainers.processes.distributed import Network
from tests.helpers.device import META, no_copies


@pytest.mark.parametrize(
    ("name", "norm", "routes"),
    [
        ("darts", "bn", "sampled"),
        ("darts", "ccbn", "blended"),
        ("darts", "sabn", "sampled"),
        ("darts-second-order", "sabn", "sampled"),
        ("random-sharing", "sabn", "sampled"),
    ],
)
def test_a_step_of_a_search(
    name: str, norm: str, routes: Any, meta_accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(device: torch.device | str, *_: object) -> torch.Generator | None:
        """There are no generators on the device meta."""
        return torch.Generator() if str(device) == "cpu" else None

    monkeypatch.setattr(search, "generator", source)
    network = supernet(3, 1, norm=norm, channels=2, cells=1).to(META)
    run: Any = SimpleNamespace(config=SimpleNamespace(seed=0), accelerator=meta_accelerator)
    bench = search.SearchStep(run, network, name, routes=routes)
    networks, config = {"supernet": Network(network, network)}, Sgd(lr=0.1)
    optimizer = torch.optim.SGD(bench.weights, 0.1, 0.9)
    update = Update(meta_accelerator, optimizer, config, Constant(), networks)
    batch = torch.empty(4, 1, 8, 8, device=META), torch.empty(4, dtype=torch.long, device=META)
    with no_copies():
        for step in range(2):  # with momentum from the second on
            assert bench.weights_loss(step, 10, batch).is_meta
            update(step, 10)
            if bench.searcher.learns:
                assert bench.architecture_loss(step, 10, batch, batch, update).is_meta
                assert network.architecture.grad is not None
                network.zero_grad()
