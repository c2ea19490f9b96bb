"""Accuracy against radius and steps, and by class: exact on a linear network; signs of masked gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.analysis import RobustnessCurves, robustness_curves
from robustsabn.analysis.curves import gradients_of
from robustsabn.analysis.results import plain
from robustsabn.attacks import ThreatModel
from robustsabn.errors import InputError
from tests.helpers.analysis import unchanged

N, D = 60, 8
THREAT = ThreatModel("Linf", 0.1)


def linear() -> nn.Module:
    """Class 1 where the mean of the numbers is above a half."""
    model = nn.Linear(D, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack([-torch.ones(D), torch.ones(D)]))
        model.bias.copy_(torch.tensor([D / 2, -D / 2]))
    return model


LEAD = torch.linspace(0.0025, 0.2975, N, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(N // 2)
X = 0.5 + LEAD[:, None].repeat(1, D)
Y = (LEAD > 0).long()


def right_within(eps: float, label: int | None = None) -> float:
    """Robust accuracy of the linear network, image by image: its numbers move by eps at most."""
    numbers: list[float] = [lead for lead in LEAD.tolist() if label is None or (lead > 0) == label]
    return sum(abs(lead) > eps for lead in numbers) / len(numbers)


class Misleading(nn.Module):
    """The gradient of the loss points away from the boundary, within a distance of it."""

    def __init__(self, within: float) -> None:
        super().__init__()
        self.inner, self.within = linear(), within

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.inner(x)
        away = 1 - 2 * ((x.mean(1, keepdim=True) - 0.5).abs() < self.within).to(z.dtype)
        return z.detach() + away * (z - z.detach())


class Coarse(nn.Module):
    """Numbers are rounded before the linear network: gradients are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.inner((x * 50).round() / 50)
        return z


def test_curves_of_a_linear_network_are_exact(tmp_path: Path, capsys: Any) -> None:
    model, told = linear(), list[int]()
    with unchanged(model):
        found = robustness_curves(model, X, Y, THREAT, progress=told.append)
    assert (found.n, found.norm, found.eps, found.clean, found.findings) == (N, "Linf", 0.1, 1.0, ())
    assert [p.setting for p in found.radii] == pytest.approx(
        [0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5]
    )
    for point in found.radii:
        assert point.accuracy == pytest.approx(right_within(point.setting))
    assert [p.setting for p in found.steps] == [0, 1, 2, 5, 10, 20, 50]
    for point in found.steps[1:]:  # every step goes straight to the boundary
        assert point.accuracy == pytest.approx(right_within(0.1))
    assert 1 > found.noise > right_within(0.1)
    assert [c.label for c in found.classes] == [0, 1]
    for own in found.classes:
        assert (own.n, own.clean) == (Y.tolist().count(own.label), 1.0)
        assert own.robust == pytest.approx(right_within(0.1, own.label))
    assert sum(told) == gradients_of(N)
    found.show()
    printed = capsys.readouterr().out
    assert "no sign of masked gradients" in printed
    assert "50 steps" in printed
    found.to_json(tmp_path / "curves.json")
    read = json.loads((tmp_path / "curves.json").read_text())
    assert RobustnessCurves.from_dict(read) == found
    assert plain(found.to_dict()) == read


def test_more_steps_that_break_fewer_images_are_a_sign() -> None:
    found = robustness_curves(Misleading(within=0.03), X, Y, THREAT)
    assert found.steps[1].accuracy < found.steps[-1].accuracy
    assert any("more steps break fewer images" in finding for finding in found.findings)


def test_a_curve_that_rises_or_stays_up_is_a_sign() -> None:
    found = robustness_curves(Misleading(within=1.0), X, Y, THREAT, random_images=0)
    text = " | ".join(found.findings)
    assert "where every image can become grey, accuracy is" in text
    assert "at most 50.0 % is possible" in text

    class Narrow(nn.Module):
        """Gradients hold only while an image is near those of the data."""

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = linear()(x)
            on = (x - X.mean(1)[:, None]).abs().amax(1, keepdim=True) <= 0.12
            return torch.where(on, z, z.detach() - 5 * (z - z.detach()))

    rising = robustness_curves(Narrow(), X, Y, THREAT, batch_size=N)
    lowest = min(point.accuracy for point in rising.radii[:-1])
    assert max(p.accuracy for p in rising.radii[5:]) > lowest + 0.02
    assert any("a larger ball breaks fewer images" in finding for finding in rising.findings)


def test_gradients_that_are_zero_and_random_images_that_break_more_are_signs() -> None:
    found = robustness_curves(Coarse(), X, Y, THREAT, random_images=200)
    text = " | ".join(found.findings)
    assert f"the gradient is exactly zero for {N} of {N} images" in text
    assert "where every image can become grey" in text
    close = LEAD.abs() < 0.03
    noisy = robustness_curves(Misleading(within=1.0), X[close], Y[close], THREAT, random_images=200)
    assert noisy.noise_only > 0
    assert any(finding.startswith("random images broke") for finding in noisy.findings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": ()}, "steps is empty"),
        ({"radii": (0.0, 1.0)}, "radii are multiples of eps above 0; got 0"),
        ({"threat": ThreatModel("Linf", torch.full((N,), 0.1))}, "eps differs between images"),
        ({"y": Y[:3]}, "labels"),
    ],
)
def test_wrong_settings_are_refused_in_words(options: dict[str, Any], words: str) -> None:
    given: Any = {"y": Y, "threat": THREAT, **options}
    with pytest.raises(InputError, match=words):
        robustness_curves(linear(), X, **given)
