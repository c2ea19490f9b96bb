"""What a run may be asked for around its method: clipping, decay, and how resuming treats them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.errors import ConfigError
from robustsabn.trainers import load_run_model, train
from robustsabn.trainers.checkpoint import read, write

TINY: dict[str, Any] = {
    "images": 32,
    "batch_size": 32,
    "steps": 1,
    "method": "standard",
    "schedule": "constant",
    "optim": {"lr": 0.5, "momentum": 0, "weight_decay": 0},
    "validation": {"images": 10, "steps": 1},
    "test": {"images": 10, "steps": 1},
    "log_every": 1,
    "device": "cpu",
}


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def moved(place: Path, **optim: Any) -> dict[str, torch.Tensor]:
    """How far one step of SGD moves every parameter."""
    optim = {**TINY["optim"], **optim}
    train({**TINY, "optim": {**optim, "lr": 1e-30}, "out": str(place / "before")})
    train({**TINY, "optim": optim, "out": str(place / "after")})
    before, after = (
        dict(load_run_model(place / name, "last").named_parameters()) for name in ("before", "after")
    )
    return {name: (after[name] - before[name]).detach() for name in before}


def length(tensors: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([t.flatten() for t in tensors.values()]).double().norm())


def test_clipping_shortens_the_gradient_and_keeps_its_direction(tmp_path: Path) -> None:
    free = moved(tmp_path / "free")
    norm = length(free) / 0.5
    clipped = moved(tmp_path / "clipped", clip=norm / 4)
    assert length(clipped) == pytest.approx(length(free) / 4, rel=1e-3)
    for name, step in clipped.items():
        torch.testing.assert_close(4 * step, free[name], rtol=1e-2, atol=1e-6)
    (line,) = records(tmp_path / "clipped" / "after", "train")
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    wide = moved(tmp_path / "wide", clip=norm * 4)
    torch.testing.assert_close(wide, free, rtol=0, atol=0)


def test_a_run_that_is_older_than_a_key_resumes_with_its_default(tmp_path: Path) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}
    train(config)
    stored = read(tmp_path / "run" / "checkpoints", "last")
    del stored.state["config"]["optim"]["decay"]
    write(tmp_path / "run" / "checkpoints", stored)
    train({**config, "steps": 2}, resume=True)
    with pytest.raises(ConfigError, match=r"optim.decay is 'weights', the run in .* has 'all'"):
        train(config, ["steps=3", "optim.decay=weights"], resume=True)
