"""Networks whose gradients vanish: another loss takes over, or a warning says so."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import FGSM, PGD, ThreatModel, ZeroGradientWarning, accuracy
from robustsabn.attacks.losses import cross_entropy, margin, overconfidence
from robustsabn.attacks.threat import Norm
from tests.helpers.attacks.networks import conv_case

THREAT = ThreatModel("Linf", 0.1)


class Tempered(nn.Module):
    """A linear network with logits of another scale: decisions are the same."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.linear, self.scale = nn.Linear(36, 4), scale

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.scale * self.linear(x.flatten(1).to(self.linear.weight.dtype))
        return z


def images(count: int = 60) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return x, Tempered(1)(x).argmax(1)


@pytest.mark.parametrize("scale", [60.0, 1e3, 1e5])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_overconfidence_hides_nothing(scale: float, norm: Norm) -> None:
    x, y = images()
    threat = ThreatModel(norm, {"Linf": 0.1, "L2": 0.5, "L1": 3.0}[norm])
    for attack in (
        FGSM(threat),
        PGD(threat, steps=10),
        PGD(threat, steps=10, keep="last", check=False),
        PGD(threat, steps=10, early_stop=True, restarts=2),
    ):
        plain, sure = Tempered(1).eval(), Tempered(scale).eval()
        torch.manual_seed(0)
        before = accuracy(plain, attack(plain, x, y), y)
        torch.manual_seed(0)
        assert accuracy(sure, attack(sure, x, y), y) <= before + 0.07


def test_half_precision_underflows_sooner() -> None:
    x, y = images()
    plain, sure = Tempered(1).eval(), Tempered(100).half().eval()
    found = accuracy(sure, FGSM(THREAT)(sure, x, y), y)
    assert found <= accuracy(plain, FGSM(THREAT)(plain, x, y), y) + 0.1


def test_ordinary_networks_are_attacked_as_before() -> None:
    model, x, y = conv_case(classes=4, count=12)

    def written_out(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels)

    every: tuple[dict[str, Any], ...] = ({"keep": "last"}, {"restarts": 2}, {"early_stop": True})
    for options in every:
        torch.manual_seed(0)
        ours = PGD(THREAT, steps=4, **options)(model, x, y)
        torch.manual_seed(0)
        assert torch.equal(ours, PGD(THREAT, steps=4, loss=written_out, **options)(model, x, y))


def test_what_takes_over_rises_with_the_cross_entropy_and_has_a_slope() -> None:
    lead = torch.linspace(0, 500, 101, dtype=torch.float64)
    z = torch.stack([lead, torch.zeros_like(lead), torch.full_like(lead, -3)], 1).requires_grad_()
    y = torch.zeros(101, dtype=torch.long)
    leads = overconfidence(z.detach(), y, 64.0)
    assert torch.equal(leads.sum(1) > 0, lead > 64)
    assert not leads[:, 1:].any()
    value = cross_entropy(z - leads, y) - leads.sum(1)
    assert (value.diff() <= 0).all()
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert (slope[lead > 64, 0] < -0.4).all()
    assert (slope[lead > 64, 1] > 0.4).all()
    ordinary = lead <= 64
    assert torch.equal(value[ordinary], cross_entropy(z, y)[ordinary])
    masked = overconfidence(torch.tensor([[9.0, -torch.inf], [torch.nan, 0.0]]), y[:2], 4.0)
    assert cross_entropy(torch.tensor([[9.0, -torch.inf]]) - masked[:1], y[:1]).isfinite().all()


@pytest.mark.parametrize(
    "how",
    [
        lambda z: z.round() + 0 * z,  # rounded
        lambda z: z.sign() * 5 + 0 * z,  # constant by parts
        lambda z: (z * 1e4).clamp(-30, 30),  # saturated
    ],
)
def test_other_zero_gradients_are_told(how) -> None:  # type: ignore[no-untyped-def]
    inner, x, _ = conv_case(classes=4, count=10)

    class Hidden(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            z: Tensor = how(inner(images))
            return z

    model = Hidden().eval()
    y = model(x).argmax(1)
    for attack in (FGSM(THREAT), PGD(THREAT, steps=2), PGD(THREAT, steps=2, loss="margin")):
        with pytest.warns(ZeroGradientWarning, match=r"exactly zero for \d+ of 10 images"):
            attack(model, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PGD(THREAT, steps=2, check=False)(model, x, y)  # asks nothing of the device


def test_images_that_are_wrong_already_need_no_gradient() -> None:
    x, y = images(8)
    sure = Tempered(1e4).eval()
    goal = (y + 1) % 4
    reached = PGD(THREAT, steps=3, start="none", targeted=True)(sure, x, y)  # y is predicted, and stays
    assert torch.equal(sure(reached).argmax(1), y)
    assert (margin(sure(x), goal) > 0).all()
    PGD(THREAT, steps=3, start="none")(sure, x, goal)
