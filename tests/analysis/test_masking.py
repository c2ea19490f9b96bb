"""Checks for masked gradients: on a network where they hold, and on networks of each kind that mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn import convert, route
from robustsabn.analysis import gradient_masking
from robustsabn.attacks import ThreatModel, ZeroGradientWarning
from robustsabn.errors import InputError
from tests.helpers.analysis import unchanged

N, D = 60, 8
THREAT = ThreatModel("Linf", 0.1)


def linear() -> nn.Module:
    """Class 1 where the sum of the numbers is above half of D."""
    model = nn.Linear(D, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack([-torch.ones(D), torch.ones(D)]))
        model.bias.copy_(torch.tensor([D / 2, -D / 2]))
    return model


def images() -> tuple[Tensor, Tensor]:
    """Images whose sums are known distances from half of D, so that exact robust accuracies are known."""
    g = torch.Generator().manual_seed(1)
    x = torch.full((N, D), 0.5, dtype=torch.float64)
    lead = torch.linspace(0.0025, 0.2975, N, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(N // 2)
    noise = 0.05 * torch.randn(N, D, generator=g, dtype=torch.float64)
    x = x + lead[:, None] + noise - noise.mean(1, keepdim=True)
    return x, (lead > 0).long()


X, Y = images()


def exact(eps: float) -> float:
    """Robust accuracy of the linear network: the mean of an image moves by eps, as no pixel meets a bound."""
    return ((X.mean(1) - 0.5).abs() > eps).double().mean().item()


class Rounded(nn.Module):
    """Logits of the linear network in coarse steps: the gradient is zero almost everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.inner(x)
        return z + 0.3 * z.sign() + (z.detach() - z)  # the value of z, and no gradient


class Misleading(nn.Module):
    """The gradient of the loss points away from the boundary, within a distance of it."""

    def __init__(self, within: float = 1.0) -> None:
        super().__init__()
        self.inner, self.within = linear(), within

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.inner(x)
        away = 1 - 2 * ((x.mean(1, keepdim=True) - 0.5).abs() < self.within).to(z.dtype)
        return z.detach() + away * (z - z.detach())


def test_numbers_of_a_linear_network_are_exact(tmp_path: Path, capsys: Any) -> None:
    model, other = linear(), linear()
    with unchanged(model):
        found = gradient_masking(model, X, Y, THREAT, surrogate=other)
    assert (found.n, found.clean, found.findings) == (N, 1.0, ())
    assert [p.setting for p in found.steps] == [1, 2, 5, 10, 20]
    for point in (*found.steps, *found.step_sizes[:2]):  # every step goes straight to the boundary
        assert point.accuracy == pytest.approx(exact(0.1))
    moved = [F.cross_entropy(model(x - 0.1 * (2 * y - 1)), y) for x, y in zip(X, Y, strict=True)]
    assert found.steps[0].loss == pytest.approx(torch.stack(moved).mean().item())
    assert [p.setting for p in found.radii] == pytest.approx([1, 2, 4, 5])
    assert [p.accuracy for p in found.radii[:2]] == pytest.approx([exact(0.1), exact(0.2)])
    assert found.radii[-1].accuracy == 0
    assert exact(0.1) < found.noise < 1
    assert found.transfer == pytest.approx(exact(0.1))
    assert (found.noise_only, found.transfer_only) == (0, 0)
    found.show()
    assert "no sign of masked gradients" in capsys.readouterr().out
    found.to_json(tmp_path / "masking.json")
    assert (
        json.loads((tmp_path / "masking.json").read_text())["steps"][0]["accuracy"] == found.steps[0].accuracy
    )


def test_gradients_that_vanish_are_found_by_radius_noise_and_transfer() -> None:
    with pytest.warns(ZeroGradientWarning):
        found = gradient_masking(Rounded(), X, Y, THREAT, surrogate=linear())
    text = " | ".join(found.findings)
    assert "where every image can become grey, accuracy is" in text
    assert "at most 50.0 % is possible" in text
    assert "the surrogate broke" in text
    assert found.transfer == pytest.approx(exact(0.1))
    assert found.transfer_only == round((found.steps[-1].accuracy - exact(0.1)) * N) > 0


def test_gradients_that_mislead_are_found_by_noise() -> None:
    """PGD moves away from the boundary, so that its random start alone succeeds."""
    close = (X.mean(1) - 0.5).abs() < 0.03
    found = gradient_masking(Misleading(), X[close], Y[close], THREAT, random_images=200)
    assert found.noise_only > 0
    assert any(f.startswith("random images broke") for f in found.findings)
    assert found.noise < min(p.accuracy for p in found.steps)


def test_more_steps_that_break_fewer_images_and_step_sizes_that_matter_are_found() -> None:
    """Small steps turn round at 0.03 before the boundary, and large ones jump over it."""
    found = gradient_masking(Misleading(within=0.03), X, Y, THREAT)
    few, many = found.steps[0], found.steps[-1]
    assert few.accuracy < many.accuracy
    text = " | ".join(found.findings)
    assert "1 step of PGD leave" in text
    assert "more steps break fewer images" in text
    assert "accuracy depends on the step size" in text


def test_a_route_is_selected_around_the_call() -> None:
    model: Any = convert(
        nn.Sequential(nn.BatchNorm1d(D, dtype=torch.float64), linear()), norm="saauxbn"
    ).eval()
    model[0].running_mean[1] += 0.1  # shifts the decision of one route
    with unchanged(model):
        results = []
        for name in ("clean", "adv"):
            with route(model, name):
                results.append(gradient_masking(model, X, Y, THREAT, steps=(1,), step_sizes=()))
    assert results[0].clean > results[1].clean


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": ()}, "steps is empty; give numbers of steps"),
        ({"steps": (0, 2)}, "steps"),
        ({"step_sizes": (-1.0,)}, "step_size is"),
        ({"threat": ThreatModel("Linf", torch.full((N,), 0.1))}, "eps differs between images; give one eps"),
        ({"threat": "Linf"}, "threat"),
        ({"y": Y[:3]}, "labels"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_in_words(options: dict[str, Any], words: str) -> None:
    given: Any = {"y": Y, "threat": THREAT, **options}
    with pytest.raises(InputError, match=words):
        gradient_masking(linear(), X, **given)
