"""A batch taken in parts is the same batch, or is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.errors import ConfigError
from robustsabn.trainers import train
from robustsabn.trainers.methods import METHODS
from tests.helpers.launch import launch, perform

NET = """
from torch import nn

def make(num_classes):
    layers = nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(288, num_classes))
"""
CONFIG: dict[str, Any] = {
    "norm": "sabn",
    "images": 64,
    "batch_size": 16,
    "steps": 6,
    "augment": {"crop": 1},
    "attack": {"eps": 0.1, "steps": 2},
    "optim": {"lr": 0.05, "clip": 0.5},
    "validation": {"images": 10, "steps": 1},
    "test": {"images": 10, "steps": 1},
    "device": "cpu",
}


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "net.py").write_text(NET)
    return {**CONFIG, "model": f"{tmp_path}/net.py:make"}


def compared(tmp_path: Path) -> None:
    """The parameters of `one` and `parts` agree at every step, up to the order of float32 sums."""
    one, other = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "parts"))
    assert len(one) == len(other) == 6
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5, msg=f"step {step}")


WHOLE = {name for name, cls in METHODS.items() if cls.whole_batch}


@pytest.mark.parametrize("method", sorted(set(METHODS) - WHOLE))
def test_parts_make_the_same_run(tmp_path: Path, config: dict[str, Any], method: str) -> None:
    for name, count in (("one", 1), ("parts", 4)):
        how = {"name": method, **({"lam": 0.2} if method == "gradalign" else {})}
        job = {**config, "method": how, "accumulate": count, "out": str(tmp_path / name)}
        perform(job, trace=str(tmp_path / f"{name}.pt"))
    compared(tmp_path)


def test_parts_of_two_processes_make_the_same_run(tmp_path: Path, config: dict[str, Any]) -> None:
    perform({**config, "out": str(tmp_path / "one")}, trace=str(tmp_path / "one.pt"))
    job = {**config, "accumulate": 2, "out": str(tmp_path / "parts")}
    code, output = launch([{"config": job, "trace": str(tmp_path / "parts.pt")}], tmp_path, 2)
    assert code == 0, output
    compared(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["accumulate=3"], "a process has 16 images of each batch, not a multiple of 3 parts"),
        (["accumulate=2", "method=pgd-awp"], "change the method PgdAwp, which needs several"),
        (["accumulate=2", "method=fast-advprop"], "change the method FastAdvProp, which needs several"),
        (["accumulate=2", "model=resnet-digits"], r"bn1 is batch normalisation.*layer or group norms"),
        (["accumulate=2", "model=resnet-digits", "norm=none"], "is batch normalisation"),
        (["accumulate=0"], "accumulate must be at least 1"),
    ],
)
def test_what_would_be_another_run_is_refused(
    tmp_path: Path, config: dict[str, Any], overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        train({**config, "out": str(tmp_path / "run")}, overrides)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
