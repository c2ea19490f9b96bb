"""Progress counts iterations, which move from the first second on, and ends at all of them."""

import io
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from robustsabn.attacks import APGD, APGDT, FAB, AutoAttack, ProgressEvent, Square, ThreatModel
from robustsabn.attacks.autoattack import slots
from robustsabn.attacks.reporting import live

BALL = ThreatModel("Linf", 0.02)


def events(monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[ProgressEvent]:
    monkeypatch.setattr(slots, "_SECONDS", 0.0)  # a report after every step
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).requires_grad_(False).eval()
    x = torch.rand(12, 3, 4, 4)
    seen: list[ProgressEvent] = []
    AutoAttack(BALL, version="custom", progress=seen.append, **options)(model, x, model(x).argmax(1))
    return seen


def test_iterations_are_counted_between_the_points_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 7
    seen = events(monkeypatch, attacks=[APGD(BALL, steps=steps)], batch_size=4)
    assert seen[0].done == 0
    assert {event.work for event in seen} == {12 * steps}
    assert (seen[-1].left, seen[-1].done) == (0, 12 * steps)
    unfinished = [event for event in seen if event.left == seen[0].left]
    assert len({event.done for event in unfinished}) > 2  # it moves before the first point ends
    assert all(0 <= event.done <= event.work for event in seen)


@pytest.mark.parametrize(
    ("attack", "longest"),
    [
        (APGD(BALL, steps=5, restarts=3), 15),
        (APGDT(BALL, steps=5, targets=2), 10),
        (FAB(BALL, steps=5, restarts=2), 10),
        (Square(BALL, steps=5), 5),
    ],
)
def test_the_longest_search_of_a_point(attack: Any, longest: int) -> None:
    assert attack.longest == longest


def test_the_bar_never_moves_backwards() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    common: dict[str, Any] = {
        "attack": "square",
        "index": 0,
        "attacks": 1,
        "total": 9,
        "n": 10,
        "seconds": 1.0,
    }
    with live(console) as show:
        for left, done in ((9, 40), (8, 30), (8, 60)):
            show(ProgressEvent(left=left, robust=9, done=done, work=90, **common))
            assert show.bar.tasks[0].total == 90
        assert show.bar.tasks[0].completed == 60
