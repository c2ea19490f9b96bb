"""What a single attack returns has been verified as AutoAttack's successes are."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.attacks import APGD, APGDT, FAB, FABT, Square, ThreatModel, verify
from robustsabn.attacks.search.base import Search
from tests.helpers.attacks.networks import conv_case

THREAT = ThreatModel("Linf", 0.1)
MODEL, X, Y = conv_case(classes=4, count=20, size=8)
ATTACKS = [
    APGD(THREAT, steps=6),
    APGD(THREAT, steps=6, early_stop=False),
    APGDT(THREAT, targets=2, steps=6),
    FAB(THREAT, steps=4),
    FABT(THREAT, targets=2, steps=4),
    Square(THREAT, steps=40),
]


def names(attack: Search[Any]) -> str:
    return attack.name


def broken_off(x: Tensor) -> Tensor:
    """Logits of which those of images unlike X are NaN."""
    near = (x - X[: len(x)]).flatten(1).abs().amax(1) < 1e-6
    return torch.where(near[:, None], MODEL(x), math.nan)


@pytest.mark.parametrize("attack", ATTACKS, ids=names)
def test_images_with_logits_that_are_not_finite_are_no_success(attack: Search[Any]) -> None:
    state = attack.run(broken_off, X, Y)
    assert not state.broken.any()
    assert state.strange.any()
    assert torch.equal(state.x_adv, X)


@pytest.mark.parametrize("attack", ATTACKS, ids=names)
def test_after_a_refused_success_the_search_goes_on(attack: Search[Any]) -> None:
    calls = []

    def at_first(x: Tensor) -> Any:
        calls.append(len(x))
        z = MODEL(x)
        return z if len(calls) != 2 else z * math.nan

    state = attack.run(at_first, X, Y)
    assert torch.equal(state.broken, verify(MODEL, state.x_adv, X, Y, THREAT))
    if attack.early_stop and attack.name != "fab":
        assert state.broken.any()
    assert torch.equal(state.x_adv[~state.broken], X[~state.broken])


@pytest.mark.parametrize("attack", ATTACKS, ids=names)
def test_what_only_the_search_sees_misclassified_is_no_success(attack: Search[Any]) -> None:
    def under_autocast(x: Tensor) -> Any:
        wrong = torch.is_autocast_enabled("cpu") & (x != X[: len(x)]).flatten(1).any(1)
        shift = 100 * torch.nn.functional.one_hot((Y + 1) % 4, 4)
        with torch.autocast("cpu", enabled=False):
            return MODEL(x) + wrong[:, None] * shift[: len(x)]

    with torch.autocast("cpu", torch.bfloat16):
        state = attack.run(under_autocast, X, Y)
    assert torch.equal(state.broken, verify(under_autocast, state.x_adv, X, Y, THREAT))


class Outside(APGD):
    """Says of images outside the ball, or not finite, that they break their points."""

    place = 0.2

    def step(self, state: Any, counted: Any) -> None:
        super().step(state, counted)
        state.x_adv = state.points.x + self.place
        state.broken = torch.ones_like(state.broken)


@pytest.mark.parametrize("place", [0.2, -0.2, math.nan, math.inf])
def test_images_outside_the_ball_or_not_finite_are_no_success(place: float) -> None:
    attack = Outside(THREAT, steps=3)
    attack.place = place
    state = attack.run(lambda x: MODEL(x.nan_to_num(0.0, 0.0, 0.0)), X, Y)
    assert not state.broken.any()
    assert torch.equal(state.x_adv, X)


@pytest.mark.parametrize("attack", ATTACKS, ids=names)
def test_a_refused_last_claim_hides_no_sound_one_before_it(
    attack: Search[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = copy.copy(attack)
    attack.early_stop = False
    wanted = attack.run(MODEL, X, Y).broken
    verified, checks = attack._verified, []

    def later(*given: Any) -> Tensor:
        """The last claims of the whole search are refused, others are not."""
        checks.append(1)
        return verified(*given) & (len(checks) > 1)

    monkeypatch.setattr(attack, "_verified", later)
    state = attack.run(MODEL, X, Y)
    assert wanted.any()
    assert torch.equal(state.broken, wanted)
    assert torch.equal(
        state.broken, verify(MODEL, state.x_adv, X, Y, THREAT) & (state.x_adv != X).flatten(1).any(1)
    )
    assert torch.equal(state.x_adv[~state.broken], X[~state.broken])
