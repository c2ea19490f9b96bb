"""One step of style transfer on a device without values: crops, losses, updates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from robustsabn.trainers.loop.updates import Update, build_optimizer
from robustsabn.trainers.processes.distributed import Network
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.style.networks import build_network, with_styles
from robustsabn.trainers.style.pictures import crops, draw_places
from robustsabn.trainers.style.step import StyleStep
from tests.helpers.device import META, no_copies
from tests.helpers.style.case import OWN


@pytest.mark.parametrize("reconstruct", [False, True])
@pytest.mark.parametrize("norm", ["adain", "saadain", "ilm", "routes", "added"])
def test_a_step(norm: str, reconstruct: bool, meta_accelerator: Accelerator) -> None:
    fixed = norm in ("routes", "added")
    config = StyleConfig(norm="routes" if fixed else norm, encoder=OWN, tap="second")  # type: ignore[arg-type]
    stylizer = build_network(config, ("a", "b") if fixed else ())
    if norm == "added":
        stylizer = with_styles(stylizer, ["c"])
    network = Network(stylizer.to(META), stylizer)
    run: Any = SimpleNamespace(config=config, accelerator=meta_accelerator)
    bench = StyleStep(run, network, ("first", "second", "third"))
    optimizer = build_optimizer(stylizer, config.optim)
    update = Update(meta_accelerator, optimizer, config.optim, config.schedule, {"stylizer": network})
    content, style = torch.empty(2, 4, 3, 24, 24, device=META)
    routes = torch.empty(4, dtype=torch.long, device=META) if fixed else None
    places = draw_places(4, 24, 16, 20, torch.Generator())
    with no_copies():
        logged = bench.backward(crops(content, places, 16), crops(style, places, 16), routes, reconstruct)
        assert all(value.is_meta for value in logged.values())
        trained = [p for p in stylizer.parameters() if p.requires_grad]
        assert len(trained) == 2 if norm == "added" else len(trained) > 2
        assert all(p.grad is not None for p in trained)
        update(0, 10)
