"""Threat models: what they accept, steps, distances, random starts."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.attacks import ThreatModel
from robustsabn.errors import InputError

NORMS = ("Linf", "L2", "L1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("L0", 0.1), "allowed are Linf, L2, L1"),
        (("Linf", -0.1), "at least 0"),
        (("Linf", math.nan), "finite"),
        (("L2", math.inf), "finite"),
        (("L2", "8/255"), "give a number"),
        (("L2", True), "give a number"),
        (("Linf", 8), "8/255"),
        (("Linf", 1.5, (-1.0, 0.0)), "smaller eps"),
        (("L2", torch.tensor([1, 2])), "floating tensor"),
        (("L2", torch.rand(2, 2)), "floating tensor"),
        (("L2", torch.tensor([0.1, -0.1])), "at least 0"),
        (("L2", torch.tensor([0.1, math.nan])), "finite"),
        (("Linf", 0.1, (1.0, 0.0)), "low < high"),
        (("Linf", 0.1, (0.0, math.inf)), "low < high"),
    ],
)
def test_what_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ThreatModel(*arguments)


def test_eps_must_fit_the_batch() -> None:
    x = torch.rand(3, 4)
    with pytest.raises(InputError, match="2 values for 3 images"):
        ThreatModel("Linf", torch.tensor([0.1, 0.2])).fit(x)
    for norm, eps in (("L2", 128), ("L1", 4.5)):
        with pytest.raises(InputError, match="wider than the whole box"):
            ThreatModel(norm, eps).fit(x)  # type: ignore[arg-type]
    assert ThreatModel("L1", 4.0).fit(x).eps == 4.0
    assert ThreatModel("Linf", 200, (0, 255)).fit(x).eps_max == 200


def test_per_sample_eps() -> None:
    eps = torch.tensor([0.1, 0.0, 0.3])
    threat = ThreatModel("Linf", eps)
    x = torch.full((3, 2, 2), 0.5)
    assert threat.eps_max == pytest.approx(0.3)
    torch.testing.assert_close(threat.distance(threat.project(x + 1, x), x), eps)
    torch.testing.assert_close(threat.select(torch.tensor([2, 0])).eps, torch.tensor([0.3, 0.1]))
    assert ThreatModel("L2", torch.tensor(0.5)).eps == 0.5


def test_distances() -> None:
    x, y = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 0.0], [0.0, -4.0]]])
    for norm, expected in (("Linf", 4), ("L2", 5), ("L1", 7)):
        assert ThreatModel(norm, 1).distance(y, x).tolist() == [expected]  # type: ignore[arg-type]


def test_contains() -> None:
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for norm, eps in (("Linf", 8 / 255), ("L2", 0.5), ("L1", 12.0)):
        threat = ThreatModel(norm, eps)  # type: ignore[arg-type]
        step = threat.project((x + torch.randn(x.shape)).clamp(0, 1), x) - x
        assert threat.contains(x + step * 0.999, x).all()
        assert not threat.contains(x + step * 1.001, x).any()
        for bad in (math.nan, -1e-6, 1.000001, math.inf):
            outside = x.clone()
            outside[0, 0, 0, 0] = bad
            assert not threat.contains(outside, outside if not math.isfinite(bad) else x).any()


def test_steps_are_steepest_for_their_norm() -> None:
    g = torch.randn(4, 3, 5)
    steps = {norm: ThreatModel(norm, 0.5).ascent(g, fraction=0.2) for norm in NORMS}  # type: ignore[arg-type]
    assert torch.equal(steps["Linf"], g.sign())
    for i in range(4):
        torch.testing.assert_close(steps["L2"][i], g[i] / g[i].norm())
        order = g[i].flatten().abs().argsort(descending=True)
        expected = torch.zeros(15)
        expected[order[:3]] = g[i].flatten()[order[:3]].sign() / 3
        torch.testing.assert_close(steps["L1"][i].flatten(), expected)
    per_sample = ThreatModel("L1", 0.5).ascent(g, fraction=torch.tensor([0.2, 1.0, 0.2, 0.0]))
    assert (per_sample != 0).flatten(1).sum(1).tolist() == [3, 15, 3, 1]


@pytest.mark.parametrize("norm", NORMS)
def test_steps_of_tiny_and_zero_gradients(norm: Any) -> None:
    threat = ThreatModel(norm, 0.5)
    g = torch.randn(2, 30)
    torch.testing.assert_close(threat.ascent(g * 1e-30), threat.ascent(g))
    assert torch.equal(threat.ascent(torch.zeros(2, 30)), torch.zeros(2, 30))


def test_l1_step_leaves_out_what_the_box_stops() -> None:
    threat = ThreatModel("L1", 0.5)
    x_adv = torch.tensor([[1.0, 0.0, 0.5, 0.5]])
    step = threat.ascent(torch.tensor([[9.0, -8.0, 1.0, -2.0]]), x_adv, fraction=0.25)
    assert step.tolist() == [[0, 0, 0, -1]]


def radii(norm: str, delta: Tensor, eps: Tensor) -> Tensor:
    order = {"Linf": math.inf, "L2": 2.0, "L1": 1.0}[norm]
    size: Tensor = torch.linalg.vector_norm(delta.double(), order, dim=1)
    return size / eps


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_noise_fills_the_ball_uniformly(norm: Any) -> None:
    eps = torch.linspace(0.05, 0.5, 20000)
    delta = ThreatModel(norm, eps).noise(torch.zeros(20000, 5))
    fill = radii(norm, delta, eps) ** 5  # the share of the ball's volume inside: uniform on [0, 1]
    assert fill.max() <= 1 + 1e-5
    ranks = fill.sort().values
    assert (ranks - torch.linspace(0, 1, 20000)).abs().max() < 0.02  # Kolmogorov: 1.6 / sqrt(20000) = 0.011
    scaled = delta / eps[:, None]
    assert scaled.mean(0).abs().max() < 0.02
    spread = {"Linf": 1 / 3, "L2": 1 / 7, "L1": 2 / 42}[norm]  # variance of one coordinate, dimension 5
    torch.testing.assert_close(scaled.var(0), torch.full((5,), spread), rtol=0.05, atol=0)
    # a direction and its opposite, and any two coordinates, are alike: no correlation
    assert (torch.corrcoef(scaled.T) - torch.eye(5)).abs().max() < 0.03


@pytest.mark.parametrize("norm", NORMS)
def test_normal_noise_is_small_and_cut(norm: Any) -> None:
    x = torch.rand(50, 400)
    wide = ThreatModel(norm, 0.9 if norm == "Linf" else 5.0).noise(x, "normal")
    assert wide.std() == pytest.approx(1e-3, rel=0.05)
    narrow = ThreatModel(norm, 1e-3).noise(x, "normal")
    assert radii(norm, narrow, torch.tensor(1e-3)).max() <= 1 + 1e-5
    assert not ThreatModel(norm, 0.0).noise(x, "normal").any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["uniform", "normal", "none"])
def test_noise_is_blind_to_the_images_and_starts_are_inside(norm: Any, kind: Any) -> None:
    threat = ThreatModel(norm, 0.3)
    x = torch.rand(6, 3, 4, 4)
    generator = torch.Generator()
    state = torch.get_rng_state()
    first = threat.noise(x, kind, generator.manual_seed(1))
    second = threat.noise(1 - x, kind, generator.manual_seed(1))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    start = threat.random_start(x, kind, generator.manual_seed(1))
    assert threat.contains(start, x).all()
    torch.testing.assert_close(start, threat.project(x + first, x))
    assert start is not x


def test_unknown_start() -> None:
    with pytest.raises(InputError, match="allowed are uniform, normal, none"):
        ThreatModel("Linf", 0.1).noise(torch.rand(1, 2), "gaussian")  # type: ignore[arg-type]
