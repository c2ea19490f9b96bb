"""Attacks on a device without values: their steps look at none and copy nothing there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import convert, route
from robustsabn.attacks import FGSM, PGD, ThreatModel
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.search.apgd import APGD, APGDT
from robustsabn.attacks.search.base import Points, Search
from robustsabn.attacks.search.fab import FAB, FABT
from robustsabn.attacks.search.square import Square
from tests.helpers.device import META, no_copies
from tests.helpers.methods import network

N = 5
NORMS = ["Linf", "L2", "L1"]


def batch() -> tuple[Tensor, Tensor]:
    return torch.empty(N, 1, 4, 4, device=META), torch.empty(N, dtype=torch.long, device=META)


def attacked() -> nn.Module:
    """A network with routes."""
    return convert(network(), "saauxbn").to(META).eval()


@pytest.mark.parametrize(
    ("norm", "options"),
    [
        *((norm, {"keep": "last"}) for norm in NORMS),
        ("L2", {"keep": "best", "start": "normal"}),
        ("Linf", {"loss": "kl", "start": "normal"}),
        ("L2", {"loss": "margin", "targeted": True}),
        ("Linf", {"loss": "dlr", "bn_mode": "frozen"}),
        ("Linf", {"start": "none", "bn_mode": "train"}),
    ],
    ids=str,
)
def test_pgd_without_checks(norm: Any, options: dict[str, Any]) -> None:
    model, (x, y) = attacked(), batch()
    attack = PGD(ThreatModel(norm, 0.1), steps=2, check=False, **options)
    with no_copies(), route(model, "adv"):
        found = attack(model, x, y)
    assert found.is_meta
    assert found.shape == x.shape


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_without_checks(norm: Any) -> None:
    model, (x, y) = attacked(), batch()
    delta0 = torch.empty_like(x)
    with no_copies(), route(model, 0):
        assert FGSM(ThreatModel(norm, 0.1), check=False)(model, x, y).is_meta
        assert FGSM(ThreatModel(norm, 0.1), start="uniform", check=False)(model, x, y, delta0=delta0).is_meta


SEARCHES: dict[str, Callable[[ThreatModel], Search[Any]]] = {
    "apgd": lambda threat: APGD(threat, steps=20),
    "apgd without early stop": lambda threat: APGD(threat, loss="dlr", steps=20, eot=2, early_stop=False),
    "apgd-t": lambda threat: APGDT(threat, steps=20, restarts=2),
    "fab": lambda threat: FAB(threat, steps=20),
    "fab-t": lambda threat: FABT(threat, steps=20, restarts=2),
    "square": Square,
}


STEPS = [
    *(("apgd", norm) for norm in NORMS),
    ("apgd without early stop", "Linf"),
    ("apgd-t", "L2"),
    ("fab", "L1"),  # it waits in the other norms: test_waits.py
    ("fab-t", "L1"),
    *(("square", norm) for norm in NORMS),
]


@pytest.mark.parametrize(("name", "norm"), STEPS)
def test_steps_of_autoattack_in_which_no_run_ends(name: str, norm: Any) -> None:
    model, threat = attacked(), ThreatModel(norm, 0.1)
    search, counted = SEARCHES[name](threat), CountedModel(model)
    (x, y), ids = batch(), torch.empty(N, dtype=torch.long, device=META)
    with torch.no_grad(), route(model, "adv"):
        state = search.begin(Points.of(x, y, ids, threat, torch.empty(N, 3, device=META)))
        state.countdown = 2
        search.step(state, counted)  # brings tables over, once
        with no_copies():
            search.step(state, counted)
