"""Attacks on images that are views, with memory poisoned by NaN: those of a copy, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, APGDT, FAB, FGSM, PGD, Square, ThreatModel
from tests.helpers.layers.views import VIEWS, poisoned

SHAPE = (6, 3, 5, 5)
KINDS = [
    "slice of channels",
    "slice of channels_last",
    "crop",
    "batch last",
    "one image for all",
    "overlapping",
]
RADII = {"Linf": 0.05, "L2": 0.5, "L1": 4.0}
ATTACKS: dict[str, Callable[[ThreatModel], Any]] = {
    "fgsm": FGSM,
    "pgd": lambda threat: PGD(threat, steps=3, step_size=threat.eps / 2),
    "apgd": lambda threat: APGD(threat, steps=4),
    "apgd-t": lambda threat: APGDT(threat, steps=3),
    "fab": lambda threat: FAB(threat, steps=3),
    "square": lambda threat: Square(threat, steps=10),
}


def images(kind: str) -> Tensor:
    """A view of its kind with values in [0, 1]."""
    x = VIEWS[kind](SHAPE, torch.float32)
    whole = torch.empty(0).set_(x.untyped_storage(), 0, (x.untyped_storage().nbytes() // 4,), (1,))
    whole.sigmoid_()
    return x


@pytest.mark.parametrize("norm", RADII)
@pytest.mark.parametrize("attack", ATTACKS)
def test_views_are_attacked_as_copies_are(attack: str, norm: str) -> None:
    threat = ThreatModel(norm, RADII[norm])  # type: ignore[arg-type]  # one of the three
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()
    y = torch.arange(6) % 3
    for kind in KINDS:
        x = images(kind)
        held = x.clone()
        torch.manual_seed(1)
        wanted = ATTACKS[attack](threat)(model, x.contiguous(), y)
        with poisoned():
            torch.manual_seed(1)
            got = ATTACKS[attack](threat)(model, x, y)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6, msg=kind)
        assert torch.equal(x, held), kind
