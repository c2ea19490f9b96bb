"""Clipped gradients: shorter, and of the same direction."""

from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.trainers import load_run_model, train
from tests.helpers.runs import TINY, metrics

ONE_STEP: dict[str, Any] = {
    **TINY,
    "batch_size": 32,
    "steps": 1,
    "method": "standard",
    "schedule": "constant",
    "optim": {"lr": 0.5, "momentum": 0, "weight_decay": 0},
    "log_every": 1,
}


def moved(place: Path, **optim: Any) -> dict[str, torch.Tensor]:
    """How far one step of SGD moves every parameter."""
    optim = {**ONE_STEP["optim"], **optim}
    train({**ONE_STEP, "optim": {**optim, "lr": 1e-30}, "out": str(place / "before")})
    train({**ONE_STEP, "optim": optim, "out": str(place / "after")})
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
    (line,) = (entry for entry in metrics(tmp_path / "clipped" / "after") if entry["kind"] == "train")
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    wide = moved(tmp_path / "wide", clip=norm * 4)
    torch.testing.assert_close(wide, free, rtol=0, atol=0)
