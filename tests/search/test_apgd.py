"""APGD against closed forms, against its authors' code, and at the edges."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, APGDT, FABT, ThreatModel
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.search.apgd import checkpoints
from robustsabn.attacks.search.apgd_focused import FocusedAPGDT
from robustsabn.attacks.search.base import Points, Search
from robustsabn.errors import InputError
from tests.helpers.attacks.networks import ATTACK_NORMS, conv_case, linear_case


def test_published_checkpoints() -> None:
    assert checkpoints(100) == [21, 40, 56, 69, 79, 86, 92, 98]
    assert checkpoints(50) == [10, 20, 29, 37, 44]
    assert checkpoints(20) == [3, 6, 8, *range(9, 20)]
    assert checkpoints(10) == [1, *range(2, 10)]
    assert checkpoints(100, "L1")[:3] == [3, 7, 11]
    assert checkpoints(30, "L1") == list(range(30))


@pytest.mark.parametrize("norm", ATTACK_NORMS)
@pytest.mark.parametrize("kind", ["ce", "dlr", "margin", "t"])
@pytest.mark.parametrize("shape", [(20,), (2, 3, 3)])
def test_reaches_the_optimum_of_a_linear_model_and_no_more(
    norm: str, kind: str, shape: tuple[int, ...]
) -> None:
    # with more classes an untargeted ascent may end at another boundary than the nearest
    model, x, y = linear_case(shape, 5 if kind == "t" else 2, 8)
    optimum = model.distance(x, y, norm)
    for factor, breaks in ((1.02 if norm != "L1" else 1.5, True), (0.98, False)):
        threat = ThreatModel(norm, (optimum * factor).float())  # type: ignore[arg-type]
        attack = APGDT(threat, targets=4) if kind == "t" else APGD(threat, loss=kind)
        x_adv = attack(model, x, y)
        wrong = model(x_adv).argmax(1) != y
        assert bool(wrong.all() if breaks else ~wrong.any())
        assert bool(threat.fit(x).contains(x_adv, x).all())


@pytest.mark.parametrize("norm", ATTACK_NORMS)
@pytest.mark.parametrize("loss", ["ce", "dlr", "targeted"])
def test_is_the_authors_algorithm(norm: str, loss: str) -> None:
    """Given the same starts: the same images bit by bit for Linf, the same verdicts for L2 and L1."""
    reference = pytest.importorskip("pyautoattack.autopgd_base")
    model, x, y = conv_case(count=24)
    eps = {"Linf": 0.03, "L2": 0.3, "L1": 2.0}[norm]
    steps = 30
    make = reference.APGDAttack_targeted if loss == "targeted" else reference.APGDAttack
    theirs = make(model, n_iter=steps, norm=norm, eps=eps, seed=0, device="cpu")
    theirs.loss = "dlr-targeted" if loss == "targeted" else loss
    theirs.init_hyperparam(x)
    threat = ThreatModel(norm, eps)  # type: ignore[arg-type]
    ours = (
        APGDT(threat, targets=1, steps=steps, early_stop=False)
        if loss == "targeted"
        else APGD(threat, loss=loss, steps=steps, early_stop=False)
    )
    points = Points.of(x, y, torch.arange(len(x)), threat, model(x).detach())
    theirs.y_target = points.targets[:, 0]

    generator = torch.random.get_rng_state()
    try:
        torch.manual_seed(5)
        if norm == "L1":
            noise = torch.randn(x.shape)
            start = x + noise + reference.L1_projection(x, noise, eps)
        else:
            noise = 2 * torch.rand(x.shape) - 1 if norm == "Linf" else torch.randn(x.shape)
            start = x + eps * torch.ones_like(x) * theirs.normalize(noise)
        torch.manual_seed(5)
        best, correct, loss_best, found = theirs.attack_single_run(x, y)
    finally:
        torch.random.set_rng_state(generator)

    state = ours.begin(points, start=start)
    counted = CountedModel(model)
    while not bool(ours.idle(state).all()):
        ours.step(state, counted)
    assert counted.forwards == counted.backwards == (steps + 1) * len(x)
    assert torch.equal(state.broken, ~correct)
    assert 0 < int(state.broken.sum()) < len(x)
    if norm == "Linf":
        assert torch.equal(state.x_best, best)
        assert torch.equal(state.best, loss_best.detach())
        assert torch.equal(state.x_adv[state.broken], found[state.broken])
    elif norm == "L2":
        torch.testing.assert_close(state.x_best, best, atol=2e-2, rtol=0)


def test_the_large_eps_schedule_is_the_authors_algorithm() -> None:
    reference = pytest.importorskip("pyautoattack.autopgd_base")
    model, x, y = conv_case(count=24)
    eps, steps, threat = 1.5, 50, ThreatModel("L1", 1.5)
    theirs = reference.APGDAttack(
        model, n_iter=steps, norm="L1", eps=eps, seed=0, device="cpu", use_largereps=True
    )
    theirs.init_hyperparam(x)
    generator = torch.random.get_rng_state()
    try:
        torch.manual_seed(1)
        noise = torch.randn_like(x)
        torch.manual_seed(1)
        _, correct, _, _ = theirs.decr_eps_pgd(x, y, [3 * eps, 2 * eps, eps], [15, 15, 20])
    finally:
        torch.random.set_rng_state(generator)
    ours = APGD(threat, steps=steps, large_eps=True, early_stop=False)
    points = Points.of(x, y, torch.arange(len(x)), threat, model(x).detach())
    start = x + noise
    start = start + reference.L1_projection(x, start - x, 3 * eps)
    state = ours.begin(points, start=start)
    counted = CountedModel(model)
    while not bool(ours.idle(state).all()):
        ours.step(state, counted)
    assert counted.forwards == (steps + 3) * len(x)
    assert torch.equal(state.broken, ~correct)
    assert 0 < int(state.broken.sum()) < len(x)


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_a_point_fares_the_same_in_every_batch(norm: str) -> None:
    model, x, y = conv_case(count=32)
    attack = APGDT(ThreatModel(norm, {("Linf"): 0.02, "L2": 0.2, "L1": 2.0}[norm]), steps=12, targets=3)  # type: ignore[arg-type]
    together = attack(model, x, y)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attack(model, x[order], y[order], ids=order), together[order])
    half = torch.arange(8, 24)
    assert torch.equal(attack(model, x[half], y[half], ids=half), together[half])
    assert not torch.equal(together, x)


def test_early_stop_keeps_the_verdicts_and_saves_passes() -> None:
    model, x, y = conv_case(count=32)
    threat = ThreatModel("Linf", 0.02)
    soon, late = (
        APGD(threat, steps=20, restarts=2, early_stop=early).run(model, x, y) for early in (True, False)
    )
    assert torch.equal(soon.broken, late.broken)
    assert 0 < int(soon.broken.sum()) < 32
    assert int(soon.forwards.sum()) < int(late.forwards.sum())
    assert (late.forwards[~late.broken] == 42).all()
    assert (soon.forwards[~soon.broken] == 42).all()


def test_targets_are_tried_in_the_order_of_their_logits() -> None:
    model, x, y = linear_case((20,), 6, 8)
    state = APGDT(ThreatModel("Linf", 1e-4), steps=3).run(model, x, y)
    assert (state.run[~state.broken] == 4).all()
    assert (state.forwards[~state.broken] == 5 * 4).all()
    assert int(state.broken.sum()) < 4
    logits = model(x).scatter(1, y[:, None], -math.inf)
    assert torch.equal(logits.gather(1, state.points.targets), logits.sort(1, descending=True).values[:, :5])


@pytest.mark.parametrize("classes", [2, 3, 4, 9])
@pytest.mark.parametrize("kind", ["ce", "dlr", "t"])
def test_few_classes(classes: int, kind: str) -> None:
    model, x, y = linear_case((25,), classes, 16)
    threat = ThreatModel("Linf", (1.5 * model.distance(x, y, "Linf")).float())
    attack = APGDT(threat) if kind == "t" else APGD(threat, loss=kind)
    wrong = model(attack(model, x, y)).argmax(1) != y
    assert int(wrong.sum()) == 16 if kind == "t" else int(wrong.sum()) >= 8


def test_one_logit_is_two_classes() -> None:
    model, x, y = linear_case((25,), 2, 12)

    def single(images: Tensor) -> object:
        logits: Tensor = model(images)
        return logits[:, 1] - logits[:, 0]

    threat = ThreatModel("Linf", (1.05 * model.distance(x, y, "Linf")).float())
    assert bool((model(APGD(threat)(single, x, y)).argmax(1) != y).all())


def test_a_cross_entropy_without_gradient_is_replaced_and_noted() -> None:
    model, x, y = linear_case((25,), 2, 12)

    def saturated(images: Tensor) -> object:
        return model(images) * 1e5

    threat = ThreatModel("Linf", (1.05 * model.distance(x, y, "Linf")).float())
    state = APGD(threat).run(saturated, x, y)
    assert bool(state.broken.all())
    assert bool(state.flat.any())


@pytest.mark.parametrize("kind", ["ce", "t"])
def test_a_constant_model_ends_and_is_flagged(kind: str) -> None:
    x, y = torch.rand(5, 8), torch.zeros(5, dtype=torch.long)
    threat = ThreatModel("L2", 0.1)

    def constant(images: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(images), 4)

    state = (APGDT(threat, steps=5) if kind == "t" else APGD(threat, steps=5)).run(constant, x, y)
    assert bool(state.flat.all())
    assert not bool(state.broken.any())
    assert state.x_adv.isfinite().all()


def test_ties_never_make_the_label_a_target() -> None:
    x, y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    points = Points.of(x, y, torch.arange(6), ThreatModel("Linf", 0.1), torch.zeros(6, 4))
    assert points.targets.shape == (6, 3)
    assert not bool((points.targets == y[:, None]).any())


@pytest.mark.parametrize("left", [3, 5])
def test_classes_ruled_out_by_minus_infinity_change_nothing(left: int) -> None:
    inner, x, _ = conv_case(count=16)

    def few(images: Tensor) -> Tensor:
        logits: Tensor = inner(images)
        return logits[:, :left]

    def masked(images: Tensor) -> Tensor:
        logits: Tensor = inner(images)
        return logits.masked_fill(torch.arange(10) >= left, -torch.inf)

    y, threat = few(x).argmax(1), ThreatModel("Linf", 0.02)
    attacks: list[Search[Any]] = [
        APGDT(threat, steps=8),
        APGD(threat, loss="dlr", steps=8),
        FocusedAPGDT(threat, steps=4, most=2, long=8),
        FABT(threat, steps=5),
    ]
    for attack in attacks:
        state, wanted = attack.run(masked, x, y), attack.run(few, x, y)
        assert 0 < int(wanted.broken.sum()) < 16
        assert torch.equal(state.x_adv, wanted.x_adv)
        assert torch.equal(state.forwards, wanted.forwards)
        assert torch.equal(state.aimed, wanted.aimed)


def test_expectation_over_transformation_sees_through_noise() -> None:
    model, x, y = linear_case((25,), 4, 12)
    generator = torch.Generator().manual_seed(0)

    def noisy(images: Tensor) -> object:
        return model(images + 0.3 * torch.randn(images.shape, generator=generator))

    state = APGD(ThreatModel("Linf", 0.002), steps=6, eot=5).run(noisy, x, y)
    kept = ~state.broken & (state.forwards > 0)
    assert (state.forwards[kept] == 7 * 5).all()
    assert (state.backwards[kept] == 7 * 5).all()


def test_the_model_and_the_callers_randomness_are_left_alone() -> None:
    model, x, y = conv_case(count=8)
    model.train()
    model.get_submodule("3").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    APGD(ThreatModel("Linf", 0.05), steps=3)(model, x, y)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_points_wrong_from_the_start_come_back_untouched() -> None:
    model, x, y = conv_case(count=8)
    wrong = (y + 1) % 10
    assert torch.equal(APGD(ThreatModel("Linf", 0.05), steps=3)(model, x, wrong), x)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "hinge"}, "hinge"),
        ({"steps": 0}, "steps"),
        ({"restarts": -1}, "restarts"),
        ({"large_eps": True}, "L1"),
    ],
)
def test_unusable_options_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        APGD(ThreatModel("Linf", 0.1), **options)  # type: ignore[arg-type]


def test_outputs_that_are_no_logits_are_named() -> None:
    x, y = torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match="logits"):
        APGD(ThreatModel("Linf", 0.1))(lambda images: images, x, y)
    with pytest.raises(InputError, match="str"):
        APGD(ThreatModel("Linf", 0.1))(lambda images: "logits", x, y)


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module, form: str) -> None:
        super().__init__()
        self.model, self.form = model, form

    def forward(self, x: Tensor) -> object:
        logits = self.model(x)
        return {"tuple": (logits, None), "dict": {"logits": logits}, "list": [logits]}[self.form]


@pytest.mark.parametrize("form", ["tuple", "dict", "list"])
def test_outputs_in_containers(form: str) -> None:
    model, x, y = conv_case(count=8)
    attack = APGD(ThreatModel("Linf", 0.05), steps=3)
    assert torch.equal(attack(Wrapped(model, form), x, y), attack(model, x, y))


@pytest.mark.parametrize("how", ["bf16", "autocast", "channels_last"])
def test_other_precisions_and_layouts(how: str) -> None:
    model, x, y = conv_case(count=16)
    threat, called = ThreatModel("L2", 1.0), model
    if how == "bf16":
        called = model.to(torch.bfloat16)
        y = model(x.bfloat16()).argmax(1)
    elif how == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        y = called(x.to(next(called.parameters()).dtype)).argmax(1)
        x_adv = APGDT(threat, steps=10, targets=2)(called, x, y)
        wrong = called(x_adv.to(next(called.parameters()).dtype)).argmax(1) != y
    assert x_adv.dtype == torch.float32
    assert bool(wrong.any())
    assert bool(threat.contains(x_adv, x).all())
