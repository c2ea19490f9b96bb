"""Square: schedule and patterns as published, budgets, odd sizes, and strength beside its authors' code."""

import pytest
import torch
from torch import Tensor

from robustsabn.attacks import Square, ThreatModel
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.search.base import Points
from robustsabn.attacks.search.square_patterns import PHASES, bump, pattern, sides
from robustsabn.errors import InputError
from tests.helpers.attacks.networks import ATTACK_NORMS, conv_case, linear_case


@pytest.mark.parametrize(
    ("norm", "size", "expected"),
    [
        ("Linf", 32, [29, 20, 14, 10, 7, 5, 4, 3]),
        ("L2", 32, [29, 21, 15, 11, 7, 5, 5, 3]),
        ("Linf", 224, [200, 142, 100, 71, 50, 35, 25, 18]),
        ("Linf", 28, [25, 18, 13, 9, 6, 4, 3, 2]),
    ],
)
def test_published_sides(norm: str, size: int, expected: list[int]) -> None:
    assert sides(norm, size, size)[:8] == expected
    assert PHASES[:8] == (0, 11, 51, 201, 501, 1001, 2001, 4001)


def test_published_bumps() -> None:
    rows = torch.tensor([[0.0695, 0.2260, 0.2260, 0.2260, 0.0695], [0.0695, 0.2260, 0.8517, 0.2260, 0.0695]])
    torch.testing.assert_close(bump("L2", 2, 5).float(), rows, atol=5e-5, rtol=0)
    middle = torch.tensor([0.0071, 0.0428, 0.6150, 0.0428, 0.0071])
    torch.testing.assert_close(bump("L1", 3, 5)[1].float(), middle, atol=5e-5, rtol=0)


@pytest.mark.parametrize("norm", ["L2", "L1"])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 21])
def test_patterns_have_unit_norm_and_two_signs(norm: str, side: int) -> None:
    value = pattern(norm, side)
    size = value.abs().sum() if norm == "L1" else value.square().sum().sqrt()
    torch.testing.assert_close(size, torch.ones_like(size))
    assert bool((value[: side // 2] > 0).all())
    assert bool((value[side // 2 :] < 0).all())


@pytest.mark.parametrize("norm", ATTACK_NORMS)
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 12, 12), (3, 14, 9), (1, 3, 19), (4, 24, 18), (2, 1, 1)])
def test_odd_sizes_stay_in_budget(norm: str, shape: tuple[int, ...]) -> None:
    model, x, y = linear_case(shape, 4, 8)
    threat = ThreatModel(norm, (0.7 * model.distance(x, y, norm)).float())  # type: ignore[arg-type]
    attack = Square(threat, steps=40)
    points = Points.of(x, y, torch.arange(8), threat, model(x).detach())
    state, counted = attack.begin(points), CountedModel(model)
    seen = set()
    for _ in range(41):
        attack.step(state, counted)
        assert bool(threat.contains(state.x_best, x).all())
        seen.add(float(state.best.sum()))
    assert bool(state.done.all())
    assert not bool(state.broken.any())
    assert len(seen) > 1


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_the_budget_is_used(norm: str) -> None:
    model, x, _ = conv_case(count=8)
    eps = {"Linf": 0.001, "L2": 0.01, "L1": 0.05}[norm]
    threat = ThreatModel(norm, eps)  # type: ignore[arg-type]
    state = Square(threat, steps=30).run(model, 0.5 + 0 * x, model(0.5 + 0 * x).argmax(1))
    distance = threat.distance(state.x_best, state.points.x)
    torch.testing.assert_close(distance, torch.full_like(distance, eps), rtol=1e-4, atol=0)


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_a_point_fares_the_same_in_every_batch(norm: str) -> None:
    model, x, y = conv_case(count=32)
    eps = {"Linf": 0.05, "L2": 0.4, "L1": 4.0}[norm]
    attack = Square(ThreatModel(norm, eps), steps=60)  # type: ignore[arg-type]
    together = attack(model, x, y)
    order = torch.arange(31, -1, -1)
    assert torch.equal(attack(model, x[order], y[order], ids=order), together[order])
    half = torch.arange(8, 24)
    assert torch.equal(attack(model, x[half], y[half], ids=half), together[half])
    assert int((together != x).flatten(1).any(1).sum()) > 0


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_as_strong_as_the_authors_code(norm: str) -> None:
    reference = pytest.importorskip("pyautoattack.square")
    model, x, y = conv_case(count=64, size=16)
    eps = {"Linf": 0.03, "L2": 0.8, "L1": 9.0}[norm]
    theirs = reference.SquareAttack(
        model, norm=norm, n_queries=80, eps=eps, seed=0, device="cpu", n_restarts=1
    )
    theirs.rescale_schedule = False
    generator = torch.random.get_rng_state()
    try:
        found = theirs.perturb(x.clone(), y)
    finally:
        torch.random.set_rng_state(generator)
    broken = Square(ThreatModel(norm, eps), steps=80).run(model, x, y).broken  # type: ignore[arg-type]
    other = int((model(found).argmax(1) != y).sum())
    assert 5 < other < 60
    assert abs(int(broken.sum()) - other) <= 10


def test_only_logits_are_asked_for_and_each_query_costs_one() -> None:
    model, x, y = conv_case(count=8)

    def opaque(images: Tensor) -> object:
        return model(images).detach()

    state = Square(ThreatModel("Linf", 1e-5), steps=20).run(opaque, x, y)
    assert (state.forwards == 21).all()
    assert (state.backwards == 0).all()


def test_a_tie_is_no_success_but_searched_on() -> None:
    x, y = torch.full((4, 1, 5, 5), 0.5), torch.zeros(4, dtype=torch.long)

    def tied(images: Tensor) -> Tensor:
        top = (images[:, 0, 0, 0] > 0.5).float()
        return torch.stack([1 - 0 * top, top], 1)

    state = Square(ThreatModel("Linf", 0.1), steps=10).run(tied, x, y)
    assert not bool(state.broken.any())
    assert (state.forwards == 11).all()


def test_vectors_are_refused_with_the_remedy() -> None:
    model, x, y = linear_case((9,), 3, 4)
    with pytest.raises(InputError, match="use another attack"):
        Square(ThreatModel("Linf", 0.1), steps=2)(model, x, y)
