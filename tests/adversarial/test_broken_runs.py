"""Real runs that are broken, one of each kind: the page names what is wrong in a sentence."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustsabn.cli import main
from robustsabn.data import load
from robustsabn.errors import TrainingError
from robustsabn.trainers import train
from robustsabn.trainers.pages import write_run_page
from tests.helpers.runs import TINY

NETS = """
from torch import nn

def small(classes, momentum=0.1):
    def norm():
        return nn.BatchNorm2d(16, momentum=momentum)
    layers = nn.Conv2d(1, 16, 3), norm(), nn.ReLU(), nn.Conv2d(16, 16, 3), norm(), nn.ReLU()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, classes))

def make(num_classes):
    return small(num_classes)

def slow_statistics(num_classes):
    return small(num_classes, momentum=1e-5)

class Rounded(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.net = small(classes)

    def forward(self, x):
        return self.net((4 * x).round() / 4)

def rounded(num_classes):
    return Rounded(num_classes)

def plain(num_classes):
    layers = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, num_classes))
"""
KINDS = (
    "NaN.",
    "Hardly better than guessing.",
    "Masked gradients.",
    "Wrong batch-norm statistics.",
    "Batch norms during the attack.",
    "Catastrophic overfitting.",
    "Robust overfitting.",
)
SETTINGS: dict[str, Any] = {
    "method": "pgd",
    "attack": {"eps": 0.1, "steps": 3},
    "optim": {"name": "adamw", "lr": 0.01},
    "schedule": "constant",
    "images": 640,
    "epochs": 4,
    "batch_size": 64,
    "validation": {"images": 100, "steps": 3},
    "test": {"images": 50, "steps": 2},
    "device": "cpu",
}


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, Any]:
    """Settings of a sound run, to be broken."""
    (tmp_path / "net.py").write_text(NETS)
    return {**SETTINGS, "model": f"{tmp_path / 'net.py'}:make", "out": str(tmp_path / "run")}


def named(folder: str) -> list[str]:
    """The failures that the page of a run names."""
    page = write_run_page(folder).read_text()
    return [kind for kind in KINDS if f"<b>{kind}</b>" in page]


def text(folder: str) -> str:
    return (Path(folder) / "report" / "index.html").read_text()


def test_a_sound_run_is_called_nothing(broken: dict[str, Any]) -> None:
    train(broken)
    assert named(broken["out"]) == []


def test_a_loss_that_became_nan(broken: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        train({**broken, "optim": {"name": "sgd", "lr": 1e20}})
    assert named(broken["out"]) == ["NaN."]
    assert "training stopped there" in text(broken["out"])
    assert "batch-of-step-1.safetensors" in text(broken["out"])


def test_weights_that_are_random(tmp_path: Path) -> None:
    still: dict[str, Any] = {"optim": {"name": "sgd", "lr": 1e-9}, "attack": {"eps": 0.1, "steps": 1}}
    out = str(tmp_path / "run")
    train({**TINY, **still, "epochs": 1, "test": {"images": 355, "steps": 1}, "out": out})
    assert named(out) == ["Hardly better than guessing."]
    assert "where guessing among 10 classes gives 10.0 %: these weights are hardly better" in text(out)


def test_running_statistics_that_do_not_fit(broken: dict[str, Any]) -> None:
    train({**broken, "model": broken["model"].replace("make", "slow_statistics")})
    assert "Wrong batch-norm statistics." in named(broken["out"])
    assert "the running statistics do not fit. Is the momentum of the batch norms" in text(broken["out"])


def test_attacks_with_statistics_of_the_batch(broken: dict[str, Any]) -> None:
    train({**broken, "attack": {**broken["attack"], "bn_mode": "train"}, "epochs": 2})
    assert "Batch norms during the attack." in named(broken["out"])
    assert "With attack.bn_mode=train the attacks of the training used" in text(broken["out"])


@pytest.fixture(scope="module")
def masked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that rounds its images, so that gradients are zero."""
    folder = tmp_path_factory.mktemp("masked")
    (folder / "net.py").write_text(NETS)
    train({**SETTINGS, "model": f"{folder / 'net.py'}:rounded", "out": str(folder / "run")})
    return folder / "run"


@pytest.fixture
def masked(masked_once: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(masked_once, tmp_path / "run"))


def test_masked_gradients_by_curves(masked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named(masked) == []  # PGD alone cannot tell
    assert main(["evaluate", masked, "--attack", "pgd-5", "--curves", "--n", "30"]) == 0
    said = capsys.readouterr().out
    assert "warning: masked gradients: the gradient is exactly zero for" in said
    assert named(masked) == ["Masked gradients."]
    assert "where every image can become grey, accuracy is" in text(masked)
    for chart in ("accuracy against eps", "accuracy against steps", "accuracy by class"):
        assert f'aria-label="{chart}"' in text(masked)


def test_masked_gradients_by_autoattack(masked: str) -> None:
    fast = ["--attack", "autoattack:fast", "--n", "16"]
    assert main(["evaluate", masked, *fast]) == 0
    assert named(masked) == ["Masked gradients."]
    assert "samples had a gradient of exactly zero" in text(masked)


@pytest.mark.slow
def test_catastrophic_overfitting(broken: dict[str, Any]) -> None:
    one_step = {"name": "n-fgsm", "k": 0}  # plain FGSM
    validation = {"images": 1000, "steps": 5}
    train({**broken, "method": one_step, "attack": {"eps": 0.4}, "epochs": 20, "validation": validation})
    assert "Catastrophic overfitting." in named(broken["out"])


@pytest.mark.slow
def test_robust_overfitting(broken: dict[str, Any], tmp_path: Path) -> None:
    """Half of 540 labels are wrong: the network learns the digits first, and the labels after that."""
    digits, g = load("digits"), np.random.default_rng(0)
    x, y = digits.train.batch(torch.arange(600))
    x_test, y_test = digits.test.batch(torch.arange(300))
    wrong = g.random(600) < 0.5
    noisy = np.where(wrong, g.integers(0, 10, 600), y.numpy())
    train_images, test_images = ((255 * one[:, 0]).round().byte().numpy() for one in (x, x_test))
    np.savez(
        tmp_path / "noisy.npz",
        train_images=train_images,
        train_labels=noisy,
        test_images=test_images,
        test_labels=y_test.numpy(),
    )
    longer = {"data": f"npz:{tmp_path / 'noisy.npz'}", "images": None, "epochs": 30, "batch_size": 32}
    settings = {"attack": {"eps": 0.05, "steps": 3}, "optim": {"name": "adamw", "lr": 0.002}}
    plain = broken["model"].replace("make", "plain")
    train(
        {
            **broken,
            **longer,
            **settings,
            "model": plain,
            "validation": {"images": 1000, "steps": 5, "every": 3},
        }
    )
    assert named(broken["out"]) == ["Robust overfitting."]
