"""The checks of `benchmarks/conversion_zoo.py` find planted faults, and the script writes its table."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import ROOT


class Net(nn.Module):
    """A convolution, a norm, a head; `fault` is what happens between them."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.fault = fault

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        plain = type(self.norm) is nn.BatchNorm2d
        y = self.norm(y) if plain or self.fault != "forgets the route" else y
        if self.fault == "mixes routes" and not plain:
            y = y.flip(0)
        if self.fault == "reads a class":
            y = y if plain else 1.001 * y
        out: Tensor = self.head(y.mean((2, 3)))
        return out


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    checks, network = importlib.import_module("zoo.checks"), importlib.import_module("zoo.network")
    return lambda fault: checks.examine(
        network.Network("ours", fault, lambda: Net(fault), network.images(8), classifies=True)
    )


@pytest.mark.parametrize("fault", ["forgets the route", "mixes routes", "reads a class"])
def test_planted_faults_are_found(examine: Any, fault: str) -> None:
    assert examine(fault)["outcome"] == "DIFFERENT"


def test_a_sound_network_passes_every_check(examine: Any) -> None:
    row = examine("none")
    assert row["outcome"] == "equal", row
    assert row["Split step"] == "finite, as two forwards"
    assert row["folding"] == "exact, folded"
    assert (row["bake"], row["mixed batches"], row["attack"]) == ("loads, equal", "equal", "runs")


@pytest.mark.slow
def test_the_script_runs_a_family_again_and_writes_a_table(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/conversion_zoo.py",
        "--cache",
        str(tmp_path / "rows"),
        "--jobs",
        "1",
    ]
    command += ["--only", "test_byobnet|alexnet", "--out", str(tmp_path / "table.md")]
    for _ in range(2):
        subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    assert len((tmp_path / "rows").read_text().splitlines()) == 4
    text = (tmp_path / "table.md").read_text()
    assert "2 networks of 2 families" in text
    assert "- 0 silent difference" in text
    assert torch.__version__ in text
