"""PGD and FGSM: closed forms on linear models, a float64 loop, cost, restarts, early stop."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustsabn.attacks import FGSM, PGD
from robustsabn.attacks.losses import LossName, cross_entropy, dlr, kl, margin
from tests.helpers.attacks.reference import (
    EPS,
    NORMS,
    Counted,
    Linear2,
    best_linear,
    pgd_loop,
    small_cnn,
    threat_of,
)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(20,), (4, 5), (1, 4, 5)])
@pytest.mark.parametrize("batch", [1, 3])
def test_linear_optimum(norm: str, shape: tuple[int, ...], batch: int) -> None:
    w, x = torch.randn(shape), torch.rand(batch, *shape)
    x[:, 0] = x[:, 0].round()  # some coordinates on the box
    y = torch.zeros(batch, dtype=torch.long)
    adv = PGD(threat_of(norm), steps=60, step_size=EPS[norm] / 6, start="none", keep="best")(
        Linear2(w).eval(), x, y
    )
    for i in range(batch):
        flat = x[i].double().flatten()
        best = best_linear(w.double().flatten(), flat, EPS[norm], norm)
        reached = (w.double() * (adv[i].double() - x[i])).sum()
        optimum = float((w.double().flatten() * best).sum())
        assert optimum * (0.97 if norm != "Linf" else 1 - 1e-5) <= reached <= optimum * (1 + 1e-5)
    if norm == "Linf":
        torch.testing.assert_close(adv, (x + 0.1 * w.sign()).clamp(0, 1))


def test_fgsm_closed_forms() -> None:
    w = torch.tensor([3.0, -2.0, 0.0, 1.0])
    model = Linear2(w).eval()
    x, y = torch.full((1, 4), 0.5), torch.tensor([0])
    expected = {
        "Linf": x + 0.1 * w.sign(),
        "L2": x + 0.1 * w / w.norm(),
        "L1": x + torch.tensor([[0.1, 0, 0, 0]]),
    }
    for norm in NORMS:
        torch.testing.assert_close(FGSM(threat_of(norm, 0.1))(model, x, y), expected[norm])
        torch.testing.assert_close(
            FGSM(threat_of(norm, 0.1), targeted=True)(model, x, torch.tensor([1])), expected[norm]
        )
    away = FGSM(threat_of("Linf", 0.1), targeted=True)(model, x, y)
    torch.testing.assert_close(away, x - 0.1 * w.sign())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", [cross_entropy, margin, dlr])
def test_equals_the_loop(norm: str, loss: Any) -> None:
    model = small_cnn().double()
    x = torch.rand(3, 3, 6, 6, dtype=torch.float64)
    x[:, :, 0] = x[:, :, 0].round()
    y = model(x).argmax(1)
    eps = [EPS[norm] * s for s in (0.3, 1.0, 2.0)]
    size = [e / 3 for e in eps]
    threat = threat_of(norm, torch.tensor(eps, dtype=torch.float64))
    delta0 = threat.noise(x)
    paths = pgd_loop(model, x, y, loss, norm=norm, eps=eps, steps=6, size=size, delta0=delta0)
    name = {cross_entropy: "ce", margin: "margin", dlr: "dlr"}[loss]
    options: Any = {"step_size": torch.tensor(size, dtype=torch.float64), "steps": 6, "loss": name}
    last = PGD(threat, **options, keep="last")(model, x, y, delta0=delta0)
    torch.testing.assert_close(last, torch.stack([path[-1] for path in paths]), rtol=0, atol=1e-10)
    best = PGD(threat, **options)(model, x, y, delta0=delta0)
    for i, path in enumerate(paths):
        logits = model(torch.stack(path))
        value = loss(logits, y[i].expand(len(path)))
        value = value + 1e3 * (logits.argmax(1) != y[i])
        torch.testing.assert_close(best[i], path[int(value.argmax())], rtol=0, atol=1e-10)


def test_kl_climbs_from_the_clean_prediction() -> None:
    model = small_cnn().double()
    x = torch.rand(3, 3, 6, 6, dtype=torch.float64)
    y = model(x).argmax(1)
    clean = model(x).detach()
    threat = threat_of("Linf", 0.03)
    delta0 = threat.noise(x, "normal")
    last = PGD(threat, steps=4, step_size=0.01, loss="kl", keep="last")(model, x, y, delta0=delta0)
    for i in range(3):
        (path,) = pgd_loop(
            model,
            x[i : i + 1],
            y[i : i + 1],
            lambda logits, _, i=i: F.kl_div(  # type: ignore[misc]
                logits.log_softmax(1), clean[i : i + 1].softmax(1), reduction="none"
            ),
            norm="Linf",
            eps=[0.03],
            steps=4,
            size=[0.01],
            delta0=delta0[i : i + 1],
        )
        torch.testing.assert_close(last[i], path[-1], rtol=0, atol=1e-10)
    assert (kl(model(last), clean) > kl(model(x + delta0), clean)).all()


@pytest.mark.parametrize(("keep", "loss", "more"), [("last", "ce", 0), ("best", "ce", 1), ("last", "kl", 1)])
def test_cost(keep: Any, loss: Any, more: int) -> None:
    model = Counted(small_cnn()).eval()
    x = torch.rand(4, 3, 6, 6)
    PGD(threat_of("Linf"), steps=7, keep=keep, loss=loss)(model, x, torch.zeros(4, dtype=torch.long))
    assert (model.forwards, model.backwards) == (7 + more, 7)
    model.forwards = model.backwards = 0
    FGSM(threat_of("Linf"))(model, x, torch.zeros(4, dtype=torch.long))
    assert (model.forwards, model.backwards) == (1, 1)


@settings(deadline=None, max_examples=40)
@given(
    norm=st.sampled_from(NORMS),
    shape=st.sampled_from([(9,), (2, 3, 4)]),
    batch=st.sampled_from([1, 3, 8]),
    scale=st.sampled_from([0.0, 0.01, 1.0]),
    per_sample=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    start=st.sampled_from(["uniform", "normal", "none"]),
    seed=st.integers(0, 999),
    options=st.sampled_from(
        [{}, {"keep": "last"}, {"early_stop": True}, {"loss": "dlr"}, {"early_stop": True, "keep": "last"}]
    ),
)
def test_every_result_is_inside(
    norm: str,
    shape: tuple[int, ...],
    batch: int,
    scale: float,
    per_sample: bool,
    dtype: torch.dtype,
    start: Any,
    seed: int,
    options: dict[str, Any],
) -> None:
    torch.manual_seed(seed)
    x = torch.rand(batch, *shape, dtype=dtype)
    x = torch.where(torch.rand(x.shape) < 0.3, x.round(), x)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    eps = EPS[norm] * scale * (torch.rand(batch, dtype=dtype) if per_sample else 1.0)
    threat = threat_of(norm, eps)
    y = torch.arange(batch) % 3
    adv = PGD(threat, steps=3, start=start, bn_mode="eval", **options)(model, x, y)
    assert adv.dtype == dtype
    assert adv.shape == x.shape
    assert not adv.requires_grad
    assert threat.contains(adv, x).all()


def test_best_includes_the_start() -> None:
    model = small_cnn()
    x = torch.rand(6, 3, 6, 6)
    y = (model(x).argmax(1) + 1) % 5  # misclassified as they are, and steps that repair it
    repair = PGD(threat_of("Linf", 0.5), start="none", loss=lambda logits, y: -cross_entropy(logits, y))
    assert torch.equal(repair(model, x, y), x)
    y = model(x).argmax(1)
    huge = PGD(threat_of("Linf", 1.0), steps=1, step_size=1.0, start="none")(model, x, y)
    assert (cross_entropy(model(huge), y) >= cross_entropy(model(x), y)).all()


def test_restarts_attack_what_still_holds() -> None:
    class Sizes(Counted):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__(inner)
            self.sizes: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.sizes.append(len(x))
            return super().forward(x)

    inner = small_cnn()
    x = torch.rand(40, 3, 6, 6)
    y = inner(x).argmax(1)
    threat = threat_of("Linf", torch.linspace(0.02, 0.04, 40))
    once = PGD(threat, steps=3)(inner, x, y, generator=torch.Generator().manual_seed(5))
    model = Sizes(inner).eval()
    thrice = PGD(threat, steps=3, restarts=3)(model, x, y, generator=torch.Generator().manual_seed(5))
    broken = inner(once).argmax(1) != y
    left = int((~broken).sum())
    assert 0 < left < 40
    assert model.sizes[:4] == [40] * 4
    assert model.sizes[4:8] == [left] * 4
    assert model.sizes[8] <= left
    assert torch.equal(once[broken], thrice[broken])
    assert threat.contains(thrice, x).all()
    assert not torch.equal(once[~broken], thrice[~broken])
    assert (cross_entropy(inner(thrice), y) >= cross_entropy(inner(once), y) - 1e-6).all()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_early_stop_keeps_the_first_misclassified_iterate(keep: Any) -> None:
    model = small_cnn().double()
    x = torch.rand(12, 3, 6, 6, dtype=torch.float64)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 5
    eps = torch.linspace(0.01, 0.05, 12, dtype=torch.float64)
    threat = threat_of("Linf", eps)
    delta0 = threat.noise(x)
    size = [e / 3 for e in eps.tolist()]
    paths = pgd_loop(
        model, x, y, cross_entropy, norm="Linf", eps=eps.tolist(), steps=5, size=size, delta0=delta0
    )
    counted = Counted(model).eval()
    attack = PGD(threat, steps=5, step_size=eps / 3, keep=keep, early_stop=True)
    stopped = attack(counted, x, y, delta0=delta0)
    seen = set()
    for i, path in enumerate(paths):
        logits = model(torch.stack(path))
        wrong = (logits.argmax(1) != y[i]).nonzero()[:, 0].tolist()
        losses = cross_entropy(logits, y[i].expand(6))
        expected = wrong[0] if wrong else 5 if keep == "last" else int(losses.argmax())
        seen.add(wrong[0] if wrong else None)
        torch.testing.assert_close(stopped[i], path[expected], rtol=0, atol=1e-10)
    assert len(seen) > 2  # some at the start, some later, some never
    everything = PGD(threat, steps=5, early_stop=True)(counted, x, (model(x).argmax(1) + 1) % 5)
    assert everything.shape == x.shape


def test_targeted_reaches_the_class() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 5)).eval()
    x = torch.rand(8, 3, 6, 6)
    target = (model(x).argmax(1) + 1) % 5
    losses: tuple[LossName, ...] = ("ce", "margin")
    for loss in losses:
        adv = PGD(threat_of("Linf", 0.4), steps=30, loss=loss, targeted=True)(model, x, target)
        assert (model(adv).argmax(1) == target).all()


def test_own_loss_is_maximised() -> None:
    def push_class_two(logits: Tensor, y: Tensor) -> Tensor:
        assert logits.dtype == torch.float32
        return logits[:, 2]

    model = small_cnn()
    x = torch.rand(4, 3, 6, 6)
    y = torch.full((4,), 2)
    adv = PGD(threat_of("Linf", 0.05), loss=push_class_two, keep="last")(model, x, y)
    assert (model(adv)[:, 2] > model(x)[:, 2]).all()
