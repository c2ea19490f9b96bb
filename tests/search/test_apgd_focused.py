"""The fast version: all targets briefly, the nearest ones for longer."""

import pytest
import torch

from robustsabn.attacks import AutoAttack, ThreatModel
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.search.apgd_focused import FocusedAPGDT, FocusedState
from robustsabn.attacks.search.base import Points
from robustsabn.attacks.threat import Norm
from tests.helpers.attacks.networks import conv_case


def test_the_targets_that_came_nearest_are_tried_again() -> None:
    model, x, y = conv_case(count=8)
    attack = FocusedAPGDT(ThreatModel("Linf", 1e-4), targets=5, steps=4, most=2, long=7)
    counted = CountedModel(model)
    with torch.no_grad():
        state = attack.begin(Points.of(x, y, torch.arange(8), attack.threat, model(x)))
        aims: list[list[int]] = []
        last = torch.full_like(state.run, -1)
        while not bool(attack.idle(state).all()):
            before = state.run.clone()
            aim = attack.aim(state)
            attack.step(state, counted)
            if bool((before != last).any()):
                aims.append(aim.tolist())
            last = before
    assert isinstance(state, FocusedState)
    assert not bool(state.broken.any())
    targets = state.points.targets[:, :5]
    assert aims[:5] == targets.T.tolist()
    nearest = state.reached.topk(2, dim=1).indices
    assert aims[5:] == targets.gather(1, nearest).T.tolist()
    assert (state.forwards == 5 * (4 + 1) + 2 * (7 + 1)).all()
    assert torch.equal(state.forwards, state.backwards)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_a_tenth_of_the_passes_and_a_flag_that_says_so(norm: Norm) -> None:
    model, x, y = conv_case(count=6)
    report = AutoAttack(ThreatModel(norm, 1e-4), version="fast")(model, x, y)
    assert report.robust.all()
    assert report.forwards + report.backwards <= 6 * (7856 + 1910) / 10
    assert "non-standard" in [flag.name for flag in report.flags]


def test_few_classes() -> None:
    for classes in (2, 3):
        model, x, y = conv_case(classes=classes, count=6)
        attack = FocusedAPGDT(ThreatModel("Linf", 1e-4), steps=3, most=3, long=4)
        state = attack.run(model, x, y)
        assert (state.forwards == (classes - 1) * (4 + 5)).all()
