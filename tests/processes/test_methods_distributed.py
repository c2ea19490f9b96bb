"""Methods on two processes: the same parameters on both after every step, and those of one process."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.launch import launch, perform
from tests.helpers.runs import of_method

pytestmark = pytest.mark.slow  # processes that train take their time

METHODS = ("pgd", "trades", "gradalign", "trades-awp", "fast-advprop", "free")
CHANGES: dict[str, Any] = {
    "attack": {"norm": "L2", "eps": 0.5, "steps": 2},  # no signs, which amplify the order of float32 sums
    "optim": {"name": "sgd", "lr": 0.02},
    "sync_bn": True,
    "steps": 6,
    "checkpoint_every": None,
}
Trace = list[dict[str, torch.Tensor]]


def config(method: str) -> dict[str, Any]:
    return {**of_method(method), **CHANGES}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    jobs: list[dict[str, Any]] = [
        {"config": {**config(name), "out": str(place / name)}, "trace": str(place / f"{name}.pt")}
        for name in METHODS
    ]
    code, output = launch(jobs, place, 2)
    assert code == 0, output
    return place


def read(file: Path) -> Trace:
    trace: Trace = torch.load(file, weights_only=True)
    assert len(trace) == CHANGES["steps"]
    return trace


@pytest.mark.parametrize("method", METHODS)
def test_processes_do_not_drift(runs: Path, method: str) -> None:
    for mine, other in zip(read(runs / f"{method}.pt"), read(runs / f"{method}.pt.1"), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_are_one(runs: Path, tmp_path: Path, method: str) -> None:
    one = tmp_path / "one.pt"
    perform({**config(method), "out": str(tmp_path / "run")}, trace=str(one))
    for step, (a, b) in enumerate(zip(read(one), read(runs / f"{method}.pt"), strict=True)):
        # equal up to the order of float32 sums
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5, msg=lambda m, s=step: f"step {s}: {m}")  # type: ignore[misc]
