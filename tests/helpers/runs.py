"""The smallest run of training, one that dies, and whether two runs are the same to the bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.config import load
from robustsabn.trainers import TrainConfig
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.loop import run

__all__ = ["METHOD_OPTIONS", "NET", "TINY", "die", "metrics", "of_method", "same"]

NET = f"{Path(__file__).with_name('network.py')}:make"
TINY: dict[str, Any] = {
    "model": NET,
    "norm": "saauxbn",
    "images": 32,
    "batch_size": 8,
    "epochs": 2,
    "checkpoint_every": 3,
    "augment": {"crop": 1},
    "attack": {"eps": 0.1, "steps": 2, "bn_mode": "train"},
    "optim": "sgd",
    "validation": {"images": 40, "steps": 1},
    "test": {"images": 40, "steps": 1},
    "log_every": 3,
    "device": "cpu",
}
METHOD_OPTIONS: dict[str, dict[str, Any]] = {
    "gradalign": {"lam": 0.2},
    "trades-awp": {"warmup_epochs": 1},
    "mart-awp": {"warmup_epochs": 1},
    "fast-advprop": {"every": 2},
    "free": {"replays": 2},
}
TIMES = ("images_per_second",)


def of_method(name: str) -> dict[str, Any]:
    """The smallest run of the method `name`, with options that make it do something in so few steps."""
    return {**TINY, "method": {"name": name, **METHOD_OPTIONS.get(name, {})}}


def die(config: dict[str, Any], step: int, resume: bool = False) -> None:
    """Train in this process, and fail when `step` begins."""

    at = step

    class Dying(AdversarialTraining):
        def step(self, step: int) -> dict[str, torch.Tensor]:
            if step == at:
                raise MemoryError
            return super().step(step)

    with pytest.raises(MemoryError):
        run(load(TrainConfig, config), Dying, resume=resume)


def metrics(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in entries]


def same(a: Path, b: Path) -> None:
    names = [place.name for place in sorted((a / "checkpoints").iterdir())]
    assert {"best", "last"} <= set(names)
    for name in (name for name in names if not name.startswith("damaged")):
        first, second = (read(folder / "checkpoints", name) for folder in (a, b))
        assert first.state["step"] == second.state["step"]
        torch.testing.assert_close(first.tensors, second.tensors, rtol=0, atol=0)
    assert metrics(a) == metrics(b)
