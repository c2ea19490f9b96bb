"""A model that calls sys.exit is an error with its place, not a silent end."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import FGSM, PGD, AutoAttack, ThreatModel
from robustsabn.cli import main
from robustsabn.data import load_test
from robustsabn.errors import ModelError, RobustsabnError, TrainingError
from robustsabn.trainers import evaluate, train

NET = """
import sys
from torch import nn

class Leaves(nn.Module):
    def __init__(self, classes, calls):
        super().__init__()
        self.linear, self.left = nn.Linear(64, classes), calls

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            sys.exit(0)
        return self.linear(x.flatten(1))

def at_once(num_classes): return Leaves(num_classes, 0)
def later(num_classes): return Leaves(num_classes, 7)
def made(num_classes): raise SystemExit("no GPU here")
"""
CONFIG: dict[str, Any] = {
    "images": 32,
    "batch_size": 16,
    "steps": 2,
    "norm": "none",
    "method": "standard",
    "attack": {"steps": 1},
    "validation": {"images": 4, "steps": 1},
    "test": {"images": 4, "steps": 1},
    "device": "cpu",
}


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


class Leaves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x is not None:
            sys.exit(3)
        return x


@pytest.mark.parametrize("function", ["at_once", "later", "made"])
def test_in_training_by_python_and_by_command(
    net: Path, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RobustsabnError, match=r"SystemExit: .*net.py, line") as caught:
        train({**CONFIG, "model": f"net.py:{function}", "out": "run"})
    assert isinstance(caught.value, TrainingError if function == "at_once" else ModelError)
    assert "\n" not in str(caught.value)
    shutil.rmtree("run", ignore_errors=True)
    small = ["steps=1", "images=32", "batch_size=16", "norm=none", "method=standard", "out=run"]
    assert main(["train", "digits", f"model=net.py:{function}", *small]) == 2
    assert "net.py, line" in capsys.readouterr().err


def test_in_attacks_and_evaluations(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, x, y = Leaves().eval(), torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    threat = ThreatModel("Linf", 0.1)
    for attack in (PGD(threat, steps=1), FGSM(threat), AutoAttack(threat, version="fast")):
        for asked in (model, lambda images: model(images)):
            with pytest.raises(ModelError, match="ended the program: SystemExit: 3 "):
                attack(asked, x, y)
    with pytest.raises(ModelError, match="ended the program"):
        evaluate(model, load_test("digits", 4), PGD(threat, steps=1))
    words = [
        "autoattack",
        "--data",
        "digits",
        "--norm",
        "Linf",
        "--eps",
        "0.1",
        "--n",
        "2",
        "--device",
        "cpu",
    ]
    for function in ("at_once", "later", "made"):
        assert main([*words, "--model", f"net.py:{function}", "--out", "here"]) == 2
        captured = capsys.readouterr().err
        assert "net.py, line" in captured
        assert captured.count("\n") == 1
        shutil.rmtree("here", ignore_errors=True)


def test_modes_come_back_and_ctrl_c_stays_what_it_is() -> None:
    class Stopped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    threat, x, y = ThreatModel("Linf", 0.1), torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
    leaving = Leaves().train()
    with pytest.raises(ModelError):
        PGD(threat, steps=1, bn_mode="train")(leaving, x, y)
    assert leaving.training
    with pytest.raises(KeyboardInterrupt):
        PGD(threat, steps=1)(Stopped().eval(), x, y)


def test_help_and_version_still_exit_as_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    capsys.readouterr()
