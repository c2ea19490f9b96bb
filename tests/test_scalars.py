"""Numbers of NumPy, fractions and tensors are numbers; attacks use float32 for every default dtype."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from robustsabn.attacks import APGD, APGDT, FABT, FGSM, PGD, AutoAttack, Square, ThreatModel
from robustsabn.attacks.model.verify import accuracy, verify
from robustsabn.attacks.search.apgd_focused import FocusedAPGDT
from robustsabn.errors import InputError
from robustsabn.scalars import real, whole
from tests.helpers.attacks.networks import ATTACK_NORMS, conv_case


@pytest.mark.parametrize(
    ("value", "number", "count"),
    [
        (3, 3.0, 3),
        (2.0, 2.0, None),
        (True, None, None),
        (np.True_, None, None),
        (np.float16(0.5), 0.5, None),
        (np.int64(3), 3.0, 3),
        (np.array(4), 4.0, 4),
        (np.array([4]), None, None),
        (torch.tensor(3), 3.0, 3),
        (torch.tensor(0.25), 0.25, None),
        (torch.tensor(True), None, None),
        (Fraction(1, 4), 0.25, None),
        ("1", None, None),
        (None, None, None),
        (1j, None, None),
    ],
)
def test_what_is_a_number(value: Any, number: float | None, count: int | None) -> None:
    assert real(value) == number
    assert whole(value) == count
    assert type(whole(value)) in (int, type(None))


@pytest.mark.parametrize(
    "eps", [np.float32(0.1), np.float64(0.1), np.float16(0.1), Fraction(1, 10), torch.tensor(0.1)]
)
def test_a_radius_of_any_kind(eps: Any) -> None:
    threat = ThreatModel("Linf", eps, (np.int32(0), np.float32(1)))  # type: ignore[arg-type]
    assert type(threat.eps) is float
    assert threat.eps == pytest.approx(0.1, rel=1e-3)
    assert threat.bounds == (0.0, 1.0)
    assert {type(end) for end in threat.bounds} == {float}


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_counts_of_any_kind_attack_as_ints_do(kind: Any) -> None:
    model, x, y = conv_case(classes=4, count=6)
    threat, three = ThreatModel("Linf", 0.03), kind(3)
    for make in (
        lambda n: PGD(threat, steps=n, step_size=np.float64(0.01) if n is three else 0.01, start="none"),
        lambda n: APGD(threat, steps=n, restarts=n, seed=n),
        lambda n: APGDT(threat, steps=n, targets=n, seed=n),
        lambda n: FABT(threat, steps=n, targets=n, restarts=n, seed=n),
        lambda n: FocusedAPGDT(threat, steps=n, most=n, long=n, seed=n),
        lambda n: Square(threat, steps=n, seed=n),
    ):
        assert torch.equal(make(three)(model, x, y), make(3)(model, x, y))
    assert accuracy(model, x, y, batch_size=three) == 1
    assert not verify(model, x, x, y, threat, batch_size=three).any()
    reports = [
        AutoAttack(threat, version="custom", attacks=[Square(threat, steps=n)], seed=n, batch_size=n)
        for n in (three, 3)
    ]
    first, second = (attack(model, x, y) for attack in reports)
    assert first.same_verdicts(second)
    assert type(first.seed) is int


@pytest.mark.parametrize("wrong", [True, 1.5, np.float32(2), "3", None, np.array([3]), 0])
def test_what_is_no_count(wrong: Any) -> None:
    threat = ThreatModel("Linf", 0.03)
    for make in (PGD, APGD, FABT, Square):
        with pytest.raises(InputError, match=r"steps is .*; give a whole number"):
            make(threat, steps=wrong)
    with pytest.raises(InputError, match="seed is"):
        AutoAttack(threat, seed=True)


@pytest.fixture
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_double_as_the_default_dtype(norm: str, half: bool) -> None:
    model, x, y = conv_case(classes=4, count=6)
    threat = ThreatModel(norm, {"Linf": 0.05, "L2": 0.5, "L1": 3.0}[norm])  # type: ignore[arg-type]
    if half:  # images of single precision, as data sets give them
        model, x = model.float(), x.float()
    for attack in (
        PGD(threat, steps=3),
        FGSM(threat),
        APGD(threat, steps=3, loss="ce"),
        APGD(threat, steps=3, loss="dlr", restarts=2),
        APGDT(threat, steps=4, targets=1, large_eps=norm == "L1"),
        FABT(threat, steps=2, targets=1, restarts=2),
        FocusedAPGDT(threat, steps=2, targets=2, most=1, long=2),
        Square(threat, steps=9),
    ):
        x_adv = attack(model, x, y)
        assert threat.contains(x_adv.to(x), x).all()
    report = AutoAttack(threat, version="custom", attacks=[APGD(threat, steps=2), Square(threat, steps=4)])(
        model, x, y
    )
    assert report.x_adv.dtype == torch.float32
