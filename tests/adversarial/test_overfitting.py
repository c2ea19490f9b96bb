"""Overfitting seen in validations: the rule of collapse, messages and records, and interrupted runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from robustsabn.attacks import FGSM, PGD, ThreatModel
from robustsabn.data import load
from robustsabn.trainers import evaluate_run, load_run_model, train
from robustsabn.trainers.adversarial.evaluation.evaluation import starting_noise
from robustsabn.trainers.adversarial.evaluation.overfitting import (
    Reading,
    collapse,
    collapsed,
    course,
    decline,
)
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.methods import METHODS, Bench, Losses, score
from robustsabn.trainers.pages import write_run_page
from tests.helpers.runs import die, metrics, same


@pytest.mark.parametrize(
    ("robust", "fgsm", "fallen"),
    [
        (0.558, 0.590, False),  # TRADES-AWP on CIFAR-10
        (0.513, 0.570, False),  # PGD training
        (0.14, 0.30, False),  # fast-advprop on digits, hardly trained
        (0.10, 0.10, False),  # diverged
        (0.02, 0.21, False),
        (0.02, 0.23, True),
        (0.0, 0.85, True),
        (0.38, 0.74, False),
        (0.36, 0.74, True),
    ],
)
def test_collapse_is_pgd_below_half_of_fgsm(robust: float, fgsm: float, fallen: bool) -> None:
    assert collapsed(robust, fgsm) == fallen


SOUND = [
    Reading(step=10, robust=0.3, fgsm=0.34, train_robust=0.31),
    Reading(step=20, robust=0.44, fgsm=0.5, train_robust=0.48),
]


def test_a_collapse_is_told_with_its_onset_and_what_was_before() -> None:
    fallen = [
        Reading(step=30, robust=0.03, fgsm=0.8, train_robust=0.02, collapsed=True),
        Reading(step=40, robust=0.0, fgsm=0.9, train_robust=0.0, collapsed=True),
    ]
    said = collapse([*SOUND, *fallen], kept=True)
    assert said is not None
    assert said.startswith("at step 30 accuracy is 80.0 % under one step (FGSM) and 3.0 % under PGD")
    assert (
        "which was 44.0 % at step 20; the best checkpoint is from before that step. Train with method=n-fgsm"
        in said
    )
    assert "best" not in (collapse([*SOUND, *fallen], kept=False) or "")
    assert "which was" not in (collapse(fallen, kept=True) or "")
    assert collapse(SOUND, kept=True) is None
    again = collapse(
        [
            *SOUND,
            *fallen,
            Reading(step=50, robust=0.5, fgsm=0.6),
            Reading(step=60, robust=0.1, fgsm=0.7, collapsed=True),
        ],
        kept=True,
    )
    assert again is not None
    assert again.startswith("at step 60")
    assert "50.0 % at step 50" in again


def test_a_decline_is_told_where_it_is_beyond_noise() -> None:
    assert decline([], kept=True) is None
    assert decline(SOUND, kept=True) is None
    assert decline([*SOUND, Reading(step=30, robust=0.42)], kept=True) is None
    assert decline([*SOUND, Reading(step=30, robust=0.4, fgsm=0.5, train_robust=0.8)], kept=True) == (
        "robust validation accuracy was best at step 20 with 44.0 % and ended at 40.0 %: 4.0 points lost, "
        "while it ended at 80.0 % on training images; the best checkpoint is the one kept"
    )
    assert decline([*SOUND, Reading(step=30, robust=0.4)], kept=False) == (
        "robust validation accuracy was best at step 20 with 44.0 % and ended at 40.0 %: 4.0 points lost"
    )


def test_validations_of_older_runs_lack_what_was_not_measured() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "train", "step": 5},
        {"kind": "validation", "step": 5, "clean": {"all": 1}, "robust": {"all": {"all": 0.5}}},
        {"kind": "ema", "step": 5, "clean": {"all": 1}, "robust": {"all": {"all": 0.6}}},
    ]
    assert course(records) == [Reading(step=5, robust=0.5)]


NET = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        layers = nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()
        super().__init__(*layers, nn.Linear(576, num_classes))
        self.register_buffer("masked", torch.zeros(()))

    def forward(self, x):
        x = x.double().mul(255)
        on_grid = (x - x.round()).abs().flatten(1).amax(1) < 0.01
        hidden = (on_grid & (self.masked > 0)).view(-1, 1, 1, 1)
        return super().forward(torch.where(hidden, x.detach(), x).div(255).float())

def make(num_classes):
    return Net(num_classes)
"""


@dataclass(frozen=True)
class Forgetful:
    """PGD training for two epochs; then clean training of a network without gradients at 8-bit images."""

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        fallen = bench.epoch >= 2
        cast(AdversarialStep, bench).raw.get_buffer("masked").fill_(float(fallen))
        found = score("adv", bench.forward(x if fallen else bench.attack(x, y), bench.adv), y)
        return {"loss": found["adv_loss"], **found}


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(METHODS, "forgetful", Forgetful)
    (tmp_path / "net.py").write_text(NET)
    return {
        "model": f"{tmp_path / 'net.py'}:make",
        "norm": "none",
        "method": "forgetful",
        "attack": {"eps": 0.25, "steps": 3},
        "optim": {"name": "adamw", "lr": 0.01},
        "schedule": "constant",
        "images": 640,
        "epochs": 5,
        "batch_size": 64,
        "validation": {"steps": 5},
        "test": {"images": 40, "steps": 2},
        "device": "cpu",
        "out": str(tmp_path / "run"),
    }


def test_a_run_that_collapses_says_so_once_and_keeps_what_was_before(
    tmp_path: Path, forgetful: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(forgetful)
    said = capsys.readouterr().out.splitlines()
    validations = [entry for entry in metrics(tmp_path / "run") if entry["kind"] == "validation"]
    points, per_epoch = course(validations), validations[0]["step"]
    assert [point.collapsed for point in points] == [False, False, True, True, True]
    assert result.best_step <= 2 * per_epoch
    assert result.last == evaluate_run(result.folder, checkpoint="last", attack="pgd-2", n=40)
    assert result.last != result.evaluation
    assert f"last checkpoint (step {5 * per_epoch})" in " ".join(" ".join(said).split())
    (warning,) = [line for line in said if line.startswith("warning")]
    assert warning.startswith(f"warning: catastrophic overfitting: at step {3 * per_epoch} accuracy is")
    (closing,) = [line for line in said if line.startswith("overfitting")]
    assert closing.startswith(f"overfitting: robust validation accuracy was best at step {result.best_step} ")
    (last,) = [line for line in said if line.startswith("epoch 5/5")]
    assert last.endswith(
        f"on training images {100 * validations[-1]['train_robust']:.1f} %  fgsm "
        f"{100 * validations[-1]['fgsm']:.1f} %"
    )
    for entry, point in zip(validations, points, strict=True):
        assert entry["fgsm"] >= point.robust
        assert entry["robust_gap"] == entry["train_robust"] - point.robust
    page = write_run_page(tmp_path / "run").read_text()
    assert "Catastrophic overfitting." in page
    assert "At the end of training, last checkpoint" in page
    assert "obust overfitting." not in page.replace("Catastrophic overfitting.", "")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    tags = {"accuracy/fgsm/held out", "validation/collapsed", "accuracy/robust/train", "accuracy gap/robust"}
    assert tags <= set(events.Tags()["scalars"])

    cut = {**forgetful, "out": str(tmp_path / "cut")}
    die(cut, 3 * per_epoch + 2)
    capsys.readouterr()
    train(cut, resume=True)
    same(tmp_path / "cut", tmp_path / "run")
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith(("warning", "overfitting"))] == [closing]


def test_fgsm_and_the_gap_are_what_they_are_called(tmp_path: Path, forgetful: dict[str, Any]) -> None:
    short = {"method": "pgd", "steps": 6, "validation": {"steps": 2}, "images": 30, "batch_size": 15}
    train({**forgetful, **short})
    entry = [entry for entry in metrics(tmp_path / "run") if entry["kind"] == "validation"][-1]
    model, data = load_run_model(tmp_path / "run", "last"), load("digits", n=30)
    threat = ThreatModel("Linf", 0.25)

    def right(images: Tensor, y: Tensor, x_adv: Tensor) -> float:
        both = (model(images).argmax(1) == y) & (model(x_adv).argmax(1) == y)
        return float(both.double().mean())

    x, y = data.validation.batch(torch.arange(len(data.validation)), "cpu")
    assert entry["fgsm"] == right(x, y, FGSM(threat, bn_mode="eval")(model, x, y))
    x, y = data.train.batch(torch.arange(30), "cpu")
    pgd = PGD(threat, steps=2, keep="last", bn_mode="eval")
    delta0 = starting_noise(pgd, x, data.train.ids, 0)
    assert entry["train_robust"] == right(x, y, pgd(model, x, y, delta0=delta0))
    assert entry["train_robust"] > 0


def test_runs_without_robustness_to_lose_and_without_the_gap_say_less(
    tmp_path: Path, forgetful: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"method": "standard", "epochs": 2, "images": 200, "validation": {"steps": 2, "gap": False}}
    train({**forgetful, **short})
    said = capsys.readouterr().out
    (_, entry) = [entry for entry in metrics(tmp_path / "run") if entry["kind"] == "validation"]
    assert set(entry) == {"kind", "step", "clean", "robust", "fgsm"}
    assert "overfitting" not in said
    assert "overfitting." not in write_run_page(tmp_path / "run").read_text()
