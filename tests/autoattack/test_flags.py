"""AutoAttack on models and inputs that are unusual, or that make a number doubtful."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import (
    APGD,
    FAB,
    FABT,
    AutoAttack,
)
from robustsabn.attacks.search.base import Search
from tests.helpers.attacks.autoattack_case import THREAT, Wrapped, attack, broken_for_some, noisy
from tests.helpers.attacks.networks import conv_case


def _purified(z: Tensor, x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(leaf.square().sum(), leaf)
    return z + 0 * grad.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("how", "flag"),
    [
        (lambda z, x: (z * 1e4).softmax(1), "softmax"),
        (lambda z, x: z.sign() * 100 + 0 * z, "zero-gradients"),
        (noisy, "randomised"),
        (lambda z, x: noisy(z, x).index_fill(1, torch.tensor([0]), -torch.inf), "randomised"),
        (broken_for_some, "nan-logits"),
        (_purified, "gradient-in-forward"),
    ],
)
def test_suspicious_models_are_flagged(how: Callable[[Tensor, Tensor], Tensor], flag: str) -> None:
    inner, x, y = conv_case(count=24)
    model = Wrapped(inner, how).eval()
    with torch.no_grad():
        y = model(x).nan_to_num().argmax(1)
    found = {entry.name: entry for entry in attack(model, x, y).flags}
    assert found[flag].severity == "warning"
    assert found[flag].count > 0
    assert len(found[flag].message) > 60
    plain = {entry.name for entry in attack(inner, x, inner(x).argmax(1)).flags}
    assert plain <= {"non-standard", "fragile", "square-only", "fab-only"}


def _root(z: Tensor, x: Tensor) -> Tensor:
    return z + 0 * ((x - 0.1) * (x > 0.1)).sqrt().flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("how", [_root, lambda z, x: z + 0 * (x * 0).sqrt().flatten(1).sum(1, keepdim=True)])
@pytest.mark.parametrize("name", ["apgd-ce", "fab", "fab-t"])
def test_gradients_that_are_not_finite_are_flagged_as_such(how: Callable[..., Tensor], name: str) -> None:
    inner, x, _ = conv_case(count=20)
    x[::2] = x[::2].clamp_min(0.2)
    y = inner(x).argmax(1)
    one: list[Search[Any]] = [APGD(THREAT, steps=2), FAB(THREAT, steps=1), FABT(THREAT, steps=1)]
    chosen = [entry for entry in one if entry.name == name]
    report = AutoAttack(THREAT, version="custom", attacks=chosen)(Wrapped(inner, how).eval(), x, y)
    found = {flag.name: flag for flag in report.flags}
    expected = tuple(range(1, 20, 2)) if how is _root else tuple(range(20))
    assert found["nan-gradients"].ids == expected
    assert found["nan-gradients"].severity == "warning"
    assert "zero-gradients" not in found
    assert "nan-logits" not in found


def test_unusual_models_and_inputs() -> None:
    inner, x, y = conv_case(count=12)
    plain = attack(inner, x, y)
    assert attack(Wrapped(inner, lambda z, _: (z, None)), x, y).same_verdicts(plain)
    assert attack(inner, x.to(memory_format=torch.channels_last), y).same_verdicts(plain)
    few = Wrapped(inner, lambda z, _: z[:, :2])
    labels = few(x).argmax(1)
    report = attack(few, x, labels)
    assert report.classes == 2
    assert report.clean.all()
    single = Wrapped(inner, lambda z, _: z[:, 1] - z[:, 0])
    assert torch.equal(attack(single, x, labels).robust, report.robust)
    flat = nn.Sequential(nn.Unflatten(1, x.shape[1:]), inner)
    table = attack(flat, x.flatten(1), y)
    assert "square" not in [cost.name for cost in table.attacks]
    assert "not-images" in [flag.name for flag in table.flags]
    half = conv_case(count=1)[0].bfloat16()
    assert "half-precision" in [flag.name for flag in attack(half, x, y).flags]
