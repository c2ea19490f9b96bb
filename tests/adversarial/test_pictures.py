"""Pictures of attacks: what is where, and that the confusion counts every image once."""

from pathlib import Path

import pytest
import torch
from torch import nn

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.data import load
from robustsabn.models import build
from robustsabn.trainers.adversarial.evaluation.evaluation import evaluate
from robustsabn.trainers.adversarial.evaluation.pictures import (
    GAP,
    HEAD,
    LINE,
    SIDE,
    attacked_images,
    confusion,
)
from robustsabn.trainers.runs.monitor import Monitor


def shown(picture: torch.Tensor, row: int, column: int = 0) -> torch.Tensor:
    """An image of a row: 0 are images, 1 adversarial ones, 2 differences, with captions between them."""
    top = GAP + row * (SIDE + GAP) + (0, 2, 3)[row] * LINE
    left = HEAD + column * (SIDE + GAP)
    return picture[:, top : top + SIDE, left : left + SIDE]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_adversarial_images_and_magnified_differences(channels: int) -> None:
    x = torch.randint(40, 200, (2, channels, 8, 8)) / 255
    x_adv = x.clone()
    x_adv[0, :, 0, 0] += 5 / 255
    x_adv[1, :, 7, 7] -= 10 / 255
    picture = attacked_images(x, x_adv, ["cat", "dog"], ["cat", "cat"], ["dog", "dog"])
    assert picture.shape[0] == 3
    for column in range(2):
        for row, images in enumerate((x, x_adv)):
            large = images[column].expand(3, -1, -1).repeat_interleave(11, 1).repeat_interleave(11, 2)
            torch.testing.assert_close(shown(picture, row, column), large)
    first, second = (shown(picture, 2, column) for column in range(2))
    assert abs(float(first[0, 0, 0]) - 0.75) < 1 / 255  # half of the largest difference
    assert float(second[0, -1, -1]) == 0
    assert abs(float(first[0, 40, 40]) - 0.5) < 1 / 255


def test_no_difference_is_grey_and_right_and_wrong_names_have_colours() -> None:
    x = torch.rand(1, 1, SIDE, SIDE)
    same = attacked_images(x, x.clone(), ["a"], ["a"], ["a"])
    assert (shown(same, 2) - 0.5).abs().max() < 1 / 255
    wrong = attacked_images(x, x.clone(), ["a"], ["a"], ["b"])
    changed = (same != wrong).any(0).nonzero()
    assert len(changed)
    assert changed[:, 0].min() > GAP + SIDE + 2 * LINE  # the caption below the adversarial image
    long = attacked_images(x, x.clone(), ["a" * 90], ["äé"], ["日本"])
    assert long.shape == same.shape


def test_every_image_is_counted_once_and_the_diagonal_is_the_accuracy() -> None:
    images = load("digits").test.sample(50)
    model = build("resnet-digits", num_classes=10, in_channels=1).eval()
    seen = []
    measured = evaluate(
        model,
        images,
        PGD(ThreatModel("Linf", 0.02), steps=1),
        batch_size=20,
        classified=lambda y, predicted: seen.append((y, predicted)),
    )
    labels, predictions = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert labels.tolist() == images.labels.tolist()
    assert float((labels == predictions).double().mean()) == pytest.approx(measured.robust_accuracy)


def test_confusion_in_percent_of_each_label(tmp_path: Path) -> None:
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    figure = confusion(counts, ("cat", "dog", "a very long name of a class"), "pgd-20")
    axes = figure.axes[0]
    texts = [(text.get_position(), text.get_text()) for text in axes.texts]
    assert texts == [((0, 0), "75"), ((1, 0), "25"), ((0, 2), "50"), ((2, 2), "50")]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["cat", "dog"]
    figure.savefig(tmp_path / "figure.png")
    many = confusion(torch.eye(100, dtype=torch.long), [f"class {k}" for k in range(100)], "pgd-20")
    assert len(many.axes[0].texts) == 0
    assert len(many.axes[0].get_yticklabels()) <= 50


def test_names_of_classes_are_no_formulas_and_may_be_in_any_script(tmp_path: Path) -> None:
    figure = confusion(torch.eye(2, dtype=torch.long), ("$\\x$", "猫"), "pgd-20, % of each label")
    monitor = Monitor(tmp_path / "metrics.jsonl", tmp_path, 1, 0, active=True)
    with monitor.running():
        monitor.figure("confusion", figure, 1)
    assert figure.axes[0].get_xticklabels()[0].get_text() == "$\\x$"


def test_images_without_usable_logits_are_in_no_class() -> None:
    images = load("digits").test.sample(20)

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.head(x.flatten(1))
            return torch.where(x[:, 0, 4, 4, None] > 0.5, z * torch.nan, z)

    seen: list[torch.Tensor] = []
    measured = evaluate(
        Broken().eval(),
        images,
        PGD(ThreatModel("Linf", 1e-6), steps=1, check=False),
        classified=lambda y, predicted: seen.append(predicted),
    )
    assert 0 < measured.unusable < 20
    assert int((torch.cat(seen) < 0).sum()) == measured.unusable
