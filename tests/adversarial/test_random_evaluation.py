"""Restarts of PGD on a random model are judged once, by majority; others are judged as ever."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.cli import main
from robustsabn.data.sets import ArraySet
from robustsabn.trainers import evaluate, train

IMAGES = ArraySet(torch.full((40, 1, 4, 4), 128, dtype=torch.uint8), torch.zeros(40, dtype=torch.long))


class Coin(nn.Module):
    """Class 0, the right one, with probability `p`; brighter images are class 1 for sure where `fragile`."""

    def __init__(self, p: float, fragile: bool = False) -> None:
        super().__init__()
        self.p, self.fragile, self.w = p, fragile, nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        right = (torch.rand(len(x)) < self.p).float()
        rise = (x.flatten(1) - 128 / 255) @ self.w
        slope = torch.where(rise > 0.05, 50 * rise, rise) if self.fragile else 1e-3 * rise
        return torch.stack([right, 1 - right + slope], 1)


def robust(model: nn.Module, restarts: int, **options: Any) -> Any:
    torch.manual_seed(0)
    attack = PGD(ThreatModel("Linf", 0.05), steps=2, keep="last", check=False)
    return evaluate(model.eval(), IMAGES, attack, restarts=restarts, **options)


@pytest.mark.parametrize(("p", "right"), [(0.3, 0.0), (0.7, 1.0), (0.9, 1.0)])
@pytest.mark.parametrize("batch_size", [40, 7])
def test_a_coin_is_what_it_mostly_says_whatever_the_restarts(p: float, right: float, batch_size: int) -> None:
    found = robust(Coin(p), 10, batch_size=batch_size)
    assert found.clean_accuracy == found.robust_accuracy == right
    (note,) = found.notes
    assert "random" in note
    assert "majority of 11 to 1001 calls" in note


def test_a_random_model_that_a_perturbation_breaks_is_broken() -> None:
    found = robust(Coin(0.8, fragile=True), 3)
    assert found.clean_accuracy == 1
    assert found.robust_accuracy == 0


def test_one_run_is_one_answer() -> None:
    found = robust(Coin(0.7), 1)
    assert 0.5 < found.clean_accuracy < 0.9
    assert found.notes == ()


def test_two_images_are_asked_often_enough() -> None:
    few = ArraySet(IMAGES.images[:2], IMAGES.labels[:2])
    attack = PGD(ThreatModel("Linf", 0.05), steps=1, keep="last", check=False)
    for seed in range(5):
        torch.manual_seed(seed)
        assert evaluate(Coin(0.8).eval(), few, attack, restarts=8).robust_accuracy == 1


def test_a_random_model_with_nan_answers_is_mostly_wrong() -> None:
    class Fails(Coin):
        def forward(self, x: Tensor) -> Tensor:
            bad = torch.rand(len(x), 1) < 0.7
            return torch.where(bad, torch.nan, super().forward(x))

    found = robust(Fails(1.0), 2)
    assert found.clean_accuracy == found.robust_accuracy == 0
    assert found.unusable > 0


NETS = """
from torch import nn
def sigmoid(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), Wide(), nn.Sigmoid())
def softmax(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Softmax(1))
def logits(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
class Wide(nn.Module):
    def forward(self, z): return 20 * z
"""


@pytest.mark.parametrize(
    ("name", "words"), [("sigmoid", "like a sigmoid"), ("softmax", "sum to 1"), ("logits", "")]
)
def test_evaluate_says_that_outputs_are_probabilities(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nets, out = tmp_path / "nets.py", tmp_path / "run"
    nets.write_text(NETS)
    few: dict[str, Any] = {"images": 64, "steps": 1}
    train(
        {
            "model": f"{nets}:{name}",
            "norm": "none",
            "method": {"name": "standard"},
            "out": str(out),
            "batch_size": 32,
            "device": "cpu",
            "validation": few,
            "test": few,
            **few,
        }
    )
    capsys.readouterr()
    assert main(["evaluate", str(out), "--n", "20", "--attack", "pgd-1"]) == 0
    said = capsys.readouterr().out
    assert ("probabilities" in said or "sigmoid" in said) == bool(words)
    assert words in said
