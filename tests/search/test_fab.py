"""FAB and its projections against closed forms, a bisection in float64, and its authors' code."""

import math

import pytest
import torch
from torch import Tensor

from robustsabn.attacks import FAB, FABT, ThreatModel
from robustsabn.attacks.search.hyperplane import step_to_hyperplane
from tests.helpers.attacks.networks import ATTACK_NORMS, conv_case, linear_case

POINT = torch.tensor([[0.2, 0.9, 0.5, 0.0, 1.0]])
NORMAL = torch.tensor([[1.0, -2.0, 0.5, 3.0, -1.0]])
CORNER = [0.8, -0.9, 0.5, 1.0, -1.0]


@pytest.mark.parametrize(
    ("norm", "offset", "expected"),
    [
        ("Linf", -1.5, [0.11333, -0.11333, 0.11333, 0.11333, -0.11333]),
        ("L2", -1.5, [0.05574, -0.11148, 0.02787, 0.16721, -0.05574]),
        ("L1", -1.5, [0.0, 0.0, 0.0, 0.28333, 0.0]),
        ("Linf", 0.3, [0.35333, -0.35333, 0.35333, 0.35333, -0.35333]),
        ("L2", 0.3, [0.17377, -0.34754, 0.08689, 0.52131, -0.17377]),
        ("L1", 0.3, [0.0, 0.0, 0.0, 0.88333, 0.0]),
        ("Linf", 5.0, CORNER),
        ("L2", 5.0, CORNER),
        ("L1", 5.0, CORNER),
    ],
)
def test_vectors_of_the_authors_code(norm: str, offset: float, expected: list[float]) -> None:
    step = step_to_hyperplane(norm, POINT, NORMAL, torch.tensor([offset]))
    torch.testing.assert_close(step, torch.tensor([expected]), atol=1e-5, rtol=0)


def by_bisection(norm: str, t: Tensor, w: Tensor, b: float, low: float, high: float) -> Tensor:
    """The step by bisection on its multiplier, one point, float64."""
    gap = float(w @ t) - b
    side = 1.0 if gap >= 0 else -1.0
    room = torch.where(side * w > 0, t - low, high - t)

    def lengths(level: float) -> Tensor:
        if norm == "Linf":
            return torch.minimum(torch.full_like(room, level), room) * (w != 0)
        if norm == "L2":
            return torch.minimum(level * w.abs(), room)
        return room * (w.abs() > 1 / level)  # whole coordinates only: the last one is partly filled below

    least, most = 0.0, 1e9
    for _ in range(200):
        middle = (least + most) / 2
        if float((lengths(middle) * w.abs()).sum()) < abs(gap):
            least = middle
        else:
            most = middle
    moved = lengths(most)
    if norm == "L1":
        moved = lengths(least)
        for j in w.abs().argsort(descending=True).tolist():
            missing = abs(gap) - float((moved * w.abs()).sum())
            if missing > 0 and moved[j] == 0 and w[j] != 0:
                moved[j] = min(float(room[j]), missing / float(w[j].abs()))
    return -side * w.sign() * moved


@pytest.mark.parametrize("norm", ATTACK_NORMS)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 2.0)])
def test_random_hyperplanes_against_bisection(norm: str, bounds: tuple[float, float]) -> None:
    g = torch.Generator().manual_seed(0)
    low, high = bounds
    t = low + (high - low) * torch.rand(40, 12, generator=g, dtype=torch.float64)
    t[:, :3] = (t[:, :3] > 0.5) * (high - low) + low
    w = torch.randn(40, 12, generator=g, dtype=torch.float64)
    w[:10, 5] = 0
    b = (w * t).sum(1) + 3 * torch.randn(40, generator=g, dtype=torch.float64)
    b[0] = 1e4
    steps = step_to_hyperplane(norm, t, w, b, bounds)
    assert bool(((t + steps >= low - 1e-12) & (t + steps <= high + 1e-12)).all())
    for row in range(40):
        expected = by_bisection(norm, t[row], w[row], float(b[row]), low, high)
        torch.testing.assert_close(steps[row], expected, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_points_on_the_plane_and_flat_normals_stay(norm: str) -> None:
    t, w = torch.rand(2, 6), torch.randn(2, 6)
    w[1] = 0
    b = (w * t).sum(1)
    b[1] = 1.0
    torch.testing.assert_close(step_to_hyperplane(norm, t, w, b), torch.zeros(2, 6), atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ATTACK_NORMS)
@pytest.mark.parametrize("kind", [FAB, FABT])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_finds_the_closest_boundary_of_a_linear_model(norm: str, kind: type[FAB], classes: int) -> None:
    model, x, y = linear_case((3, 3, 3), classes, 8)
    optimum = model.distance(x, y, norm)
    threat = ThreatModel(norm, 10 * optimum.max().item() if norm != "Linf" else 0.5)  # type: ignore[arg-type]
    state = kind(threat, steps=40, early_stop=False).run(model, x, y)
    if kind is FAB:  # the distance of a targeted run is that of its last target
        assert bool((state.best.double() >= optimum * (1 - 1e-5)).all())
        assert bool((state.best.double() <= optimum * 1.02).all())
    for factor, breaks in ((1.03, True), (0.98, False)):
        near = ThreatModel(norm, (factor * optimum).float())  # type: ignore[arg-type]
        x_adv = kind(near, steps=40)(model, x, y)
        wrong = model(x_adv).argmax(1) != y
        assert bool(wrong.all() if breaks else ~wrong.any())
        assert bool(near.fit(x).contains(x_adv, x).all())


@pytest.mark.parametrize("norm", ATTACK_NORMS)
@pytest.mark.parametrize("targeted", [True, False])
def test_finds_the_distances_of_the_authors_code(norm: str, targeted: bool) -> None:
    reference = pytest.importorskip("pyautoattack.fab_pt")
    model, x, y = conv_case(count=12)
    theirs = reference.FABAttack_PT(
        model, norm=norm, n_restarts=1, n_iter=10, eps=1.0, seed=0, device="cpu", targeted=targeted
    )
    theirs.ndims, theirs.orig_dim, theirs.target_class = 3, list(x.shape[1:]), 2
    found = theirs.attack_single_run(x, y, use_rand_start=False, is_targeted=targeted)
    threat = ThreatModel(norm, 1.0)  # type: ignore[arg-type]
    attack = (
        FABT(threat, targets=1, steps=10, early_stop=False)
        if targeted
        else FAB(threat, steps=10, early_stop=False)
    )
    state = attack.run(model, x, y)
    distance = threat.distance(found, x)
    assert bool((distance > 0).all())
    torch.testing.assert_close(state.best, distance, rtol=2e-3, atol=0)


def test_counts_and_restarts() -> None:
    model, x, y = conv_case(count=8)
    state = FABT(ThreatModel("L2", 1e-6), steps=4, targets=3, restarts=2).run(model, x, y)
    assert not bool(state.broken.any())
    assert (state.forwards == 2 * 4 * 6).all()
    assert (state.backwards == 4 * 6).all()
    state = FAB(ThreatModel("L2", 1e-6), steps=4).run(model, x, y)
    assert (state.backwards == 4 * 10).all()


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_restarts_begin_half_eps_away_and_depend_on_the_sample_alone(norm: str) -> None:
    model, x, y = conv_case(count=8)
    threat = ThreatModel(norm, 0.01)  # type: ignore[arg-type]
    attack = FABT(threat, targets=1, restarts=2)
    state = attack.run(model, x, y)
    fresh = attack._enter(state, torch.ones_like(state.run))
    inner = threat.distance(fresh.v, x)
    assert bool((inner <= 0.005 * (1 + 1e-4)).all())
    assert bool((inner > 0.001).all())
    some = torch.tensor([5, 2])
    assert torch.equal(attack._enter(state.take(some), torch.ones(2, dtype=torch.long)).v, fresh.v[some])


def test_no_weight_gradients_are_left_behind() -> None:
    model, x, y = conv_case(count=4)
    FABT(ThreatModel("Linf", 0.1), steps=2)(model, x, y)
    FAB(ThreatModel("Linf", 0.1), steps=2)(model, x, y)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_constant_model_stays_robust_and_is_flagged() -> None:
    x, y = torch.rand(5, 8), torch.zeros(5, dtype=torch.long)

    def constant(images: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, -math.pi]).expand(len(images), 3)

    for attack in (FAB(ThreatModel("L1", 1.0), steps=3), FABT(ThreatModel("L1", 1.0), steps=3)):
        state = attack.run(constant, x, y)
        assert not bool(state.broken.any())
        assert bool(state.flat.all())
        assert bool(state.v.isfinite().all())


@pytest.mark.parametrize("attack", [FAB, FABT])
def test_a_model_that_detaches_its_images_is_flagged_and_not_an_error(attack: type[FAB]) -> None:
    inner, x, y = conv_case(count=5)
    state = attack(ThreatModel("Linf", 0.1), steps=3).run(lambda images: inner(images.detach()), x, y)
    assert bool(state.flat.all())
    assert not bool(state.broken.any())
