"""The analysis at each validation of a run: the same numbers for every norm, and no effect on training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from robustsabn import convert, route
from robustsabn.analysis import route_affines, route_gradients, route_statistics
from robustsabn.attacks import PGD, ThreatModel
from robustsabn.errors import ConfigError
from robustsabn.trainers import train
from robustsabn.trainers.adversarial.evaluation.analysis import analysed
from robustsabn.trainers.checkpoints.files import read
from tests.helpers.analysis import unchanged
from tests.helpers.runs import TINY, metrics

GROUPS = ("weight", "scale", "shift")
TAGS = {
    *(f"{name}/{g}" for name in ("balance", "cosine", "log_ratio", "norm_clean", "norm_adv") for g in GROUPS),
    *(f"{name}/{part}" for name in ("capv", "shared_share") for part in ("scale", "shift")),
    "statistics/mean",
    "statistics/log_deviation",
}


def records(folder: Path) -> list[dict[str, Any]]:
    return [entry for entry in metrics(folder) if entry["kind"] == "analysis"]


def test_every_norm_and_every_name_of_routes_has_the_same_tags(tmp_path: Path) -> None:
    runs: dict[str, dict[str, Any]] = {
        "none": {"norm": "none"},
        "sabn": {"norm": "sabn", "routes": ["plain", "mild", "hard"]},
    }
    for name, options in runs.items():
        out = tmp_path / name
        train({**TINY, **options, "analysis": 16, "out": str(out)})
        found = records(out)
        assert [entry["step"] for entry in found] == [4, 8]
        assert all({*entry} - {"kind", "step"} <= TAGS for entry in found)
        assert {*found[-1]} - {"kind", "step"} == TAGS
        board = EventAccumulator(str(out))
        board.Reload()
        tags = {tag if tag.startswith("balance/") else f"routes/{tag}" for tag in TAGS}
        assert tags <= set(board.Tags()["scalars"])
    plain = records(tmp_path / "none")[-1]
    assert (plain["capv/scale"], plain["shared_share/scale"]) == (0, 1)
    assert records(tmp_path / "sabn")[-1]["capv/scale"] > 0


def test_training_is_the_same_with_and_without(ended_once: Path, tmp_path: Path) -> None:
    train({**TINY, "analysis": 16, "out": str(tmp_path / "run")})
    for name in ("best", "last"):
        one, other = (read(folder / "checkpoints", name) for folder in (ended_once, tmp_path / "run"))
        torch.testing.assert_close(one.tensors, other.tensors, rtol=0, atol=0)
    assert [entry for entry in metrics(tmp_path / "run") if entry["kind"] != "analysis"] == metrics(
        ended_once
    )


def test_the_numbers_are_those_of_the_instruments() -> None:
    torch.manual_seed(2)
    layers = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4))
    model = convert(nn.Sequential(*layers), norm="saauxbn", init="paper")
    x, y, delta0 = torch.rand(12, 1, 5, 5), torch.arange(12) % 4, 0.01 * torch.ones(12, 1, 5, 5)
    attack = PGD(ThreatModel("Linf", 0.1), steps=2, bn_mode="eval", keep="last")
    with unchanged(model):
        found = analysed(model, ("clean", "adv"), attack, x, y, delta0)
    with route(model, "adv"):
        x_adv = attack(model, x, y, delta0=delta0)
    batches = [("clean", x, y), ("adv", x_adv, y)]
    total = route_gradients(model, routes=batches).total("weight")
    assert found["balance/weight"] == total.balance
    assert (found["norm_clean/weight"], found["norm_adv/weight"]) == total.norms
    assert found["capv/shift"] == route_affines(model).layers[0].capv_shift == 0
    assert "shared_share/shift" in found
    assert found["statistics/mean"] == route_statistics(model, routes=batches).layers[0].mean


def test_a_number_of_images_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="analysis"):
        train({**TINY, "analysis": 0, "out": str(tmp_path / "run")})
