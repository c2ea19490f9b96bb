"""Boxes whose ends no float32 equals: attacks stay inside, and what a clamp leaves at an end counts."""

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, FABT, FGSM, PGD, AutoAttack, Square, ThreatModel, verify
from robustsabn.errors import InputError
from tests.helpers.attacks.networks import ATTACK_NORMS

UNEVEN = [(-2.1179, 2.64), (-2.1, 2.64), (0.1, 0.7)]
EPS = {"Linf": 0.3, "L2": 1.0, "L1": 4.0}


def case(low: float, high: float, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model and images with every fifth pixel at an end of the box, as a clamp leaves it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).eval()
        x = torch.rand(24, 1, 6, 6, dtype=dtype) * (high - low) + low
        x.flatten(1)[:, ::5] = torch.where(torch.rand(24, 8) < 0.5, 10.0, -10.0).to(dtype)
    x = x.clamp(low, high)
    return model, x, model(x.float()).argmax(1)


@pytest.mark.parametrize("bounds", UNEVEN)
@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_every_success_at_an_end_counts(bounds: tuple[float, float], norm: str) -> None:
    model, x, y = case(*bounds)
    threat = ThreatModel(norm, EPS[norm], bounds)  # type: ignore[arg-type]
    for attack in (
        PGD(threat, steps=10),
        FGSM(threat),
        APGD(threat, steps=10),
        FABT(threat, steps=5, targets=3),
        Square(threat, steps=50),
    ):
        x_adv = attack(model, x, y)
        changed = (model(x_adv).argmax(1) != y) & (x_adv != x).flatten(1).any(1)
        assert torch.equal(verify(model, x_adv, x, y, threat), changed)
        moved = x_adv[x_adv != x].double()
        assert bounds[0] <= moved.min(), "beyond the true end"
        assert moved.max() <= bounds[1], "beyond the true end"
    assert changed.any()


def test_a_box_rounded_by_hand_has_the_same_number() -> None:
    model, x, y = case(-2.1179, 2.64)
    found = []
    for bounds in ((-2.1179, 2.64), ThreatModel("Linf", 0.3, (-2.1179, 2.64)).box(torch.float32)):
        threat = ThreatModel("Linf", 0.3, bounds)
        attack = AutoAttack(threat, version="custom", attacks=[APGD(threat, steps=10)])
        found.append(attack(model, x.clamp(*threat.box(x.dtype)), y).robust)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bounds", UNEVEN)
def test_the_box_of_a_dtype_is_the_widest_inside(bounds: tuple[float, float], dtype: torch.dtype) -> None:
    threat = ThreatModel("Linf", 0.1, bounds)
    low, high = (torch.tensor(end, dtype=dtype) for end in threat.box(dtype))
    assert bounds[0] <= low.double()
    assert high.double() <= bounds[1]
    beyond = torch.nextafter(low, low - 1), torch.nextafter(high, high + 1)
    assert beyond[0].double() < bounds[0]
    assert bounds[1] < beyond[1].double()
    assert ThreatModel("Linf", 0.1).box(dtype) == (0, 1)
    assert ThreatModel("Linf", 0.1).rim(dtype) == (0, 1)


def test_a_box_between_two_numbers_is_refused() -> None:
    with pytest.raises(InputError, match=r"no torch\.float32 lies within"):
        ThreatModel("Linf", 0, (0.1, 0.1 + 1e-12)).box(torch.float32)


def test_images_normalised_in_float32_are_inside_bounds_taken_in_float64() -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    bounds = min((0 - 0.485) / 0.229, (0 - 0.456) / 0.224), (1 - 0.406) / 0.225
    image = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    x = (image - mean[:, None, None]) / std[:, None, None]
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    threat = ThreatModel("Linf", 0.1, bounds)
    assert threat.contains(PGD(threat, steps=2)(model, x, torch.tensor([0, 1])), x).all()
    with pytest.raises(InputError, match="images range"):
        PGD(threat)(model, x + 1e-5, torch.tensor([0, 1]))


def test_double_images_clamped_in_float32_are_taken() -> None:
    model, x, y = case(-2.1179, 2.64)
    threat = ThreatModel("L2", 1.0, (-2.1179, 2.64))
    x_adv = PGD(threat, steps=5)(model, x.double(), y)
    assert x_adv.dtype == torch.float64
    assert threat.contains(x_adv, x.double()).all()
    assert (
        AutoAttack(threat, version="custom", attacks=[APGD(threat, steps=5)])(
            model, x.double(), y
        ).robust_accuracy
        < 1
    )


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_radii_of_other_dtypes_are_kept(norm: str) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        model, x, y = case(-2.1179, 2.64, torch.float64 if dtype == torch.float64 else torch.float32)
        eps = torch.linspace(0.1, 1.0, len(x)).to(dtype)
        threat = ThreatModel(norm, eps, (-2.1179, 2.64))  # type: ignore[arg-type]
        x_adv = PGD(threat, steps=5)(model, x, y)
        assert threat.contains(x_adv, x).all()
        if norm == "Linf":
            assert (threat.distance(x_adv.double(), x.double()) > 0.99 * eps.double()).all()


def test_larger_radii_of_l1_stay_inside_the_box() -> None:
    model, x, y = case(-2.1179, 2.64)
    attack = APGD(ThreatModel("L1", 3.0, (-2.1179, 2.64)), steps=20, large_eps=True)
    state = attack.run(model, x, y)
    assert state.x_cur.min() < -1, "cut to [0, 1]"
    assert torch.equal(verify(model, state.x_adv, x, y, attack.threat), state.broken)
