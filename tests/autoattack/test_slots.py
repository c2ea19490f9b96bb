"""Continuous batching: nothing about a point depends on the slots."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.attacks import APGD, APGDT, FABT, Square, ThreatModel
from robustsabn.attacks.autoattack.slots import drive
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.model.rows import ROWS, slots_for
from robustsabn.attacks.search.apgd import ApgdState
from robustsabn.attacks.search.base import Points, Search, State
from tests.helpers.attacks.networks import conv_case

THREAT = ThreatModel("Linf", 0.02)
ATTACKS: list[Callable[[], Search[Any]]] = [
    lambda: APGD(THREAT, steps=8, restarts=2),
    lambda: APGDT(THREAT, steps=8, targets=3),
    lambda: FABT(THREAT, steps=6, targets=3),
    lambda: Square(ThreatModel("Linf", 0.04), steps=40),
]


class Run:
    """One drive over a small data set, with all that came out of it."""

    def __init__(
        self,
        attack: Search[Any],
        slots: int,
        count: int = 70,
        confirm: Callable[[Any], Tensor] | None = None,
        model: Model | None = None,
    ) -> None:
        own, x, y = conv_case(count=count)
        threat, clean = attack.threat, own(x).detach()
        left = list(range(count))
        self.counted = CountedModel(model or own)

        def take(most: int) -> list[int]:
            taken, left[:] = left[:most], left[most:]
            return taken

        def points(numbers: list[int]) -> Points:
            rows = torch.tensor(numbers)
            return Points.of(x[rows], y[rows], rows, threat, clean[rows])

        self.broken = torch.zeros(count, dtype=torch.bool)
        self.x_adv = torch.zeros_like(x)
        self.forwards = torch.zeros(count, dtype=torch.long)
        self.seen: list[int] = []
        for numbers, rows in drive(attack, self.counted, take, points, slots, confirm):
            assert isinstance(rows, State)
            assert torch.equal(rows.points.ids, torch.tensor(numbers))
            self.seen += numbers
            self.broken[numbers] = rows.broken
            self.x_adv[numbers] = rows.x_adv
            self.forwards[numbers] = rows.forwards


@pytest.mark.parametrize("make", ATTACKS)
def test_every_point_once_and_the_same_whatever_the_slots(make: Callable[[], Search[Any]]) -> None:
    runs = [Run(make(), slots) for slots in (16, 48, 512)]
    assert 0 < int(runs[0].broken.sum()) < 70
    for run in runs:
        assert sorted(run.seen) == list(range(70))
        assert torch.equal(run.broken, runs[0].broken)
        assert torch.equal(run.x_adv, runs[0].x_adv)
        assert torch.equal(run.forwards, runs[0].forwards)


def test_the_network_sees_multiples_of_a_fixed_number_of_rows_only() -> None:
    model, _, _ = conv_case(count=1)
    shapes: set[int] = set()

    def spy(images: Tensor) -> object:
        shapes.add(len(images))
        return model(images)

    Run(ATTACKS[0](), 48, model=spy)
    assert shapes <= {16, 32, 48}
    assert 48 in shapes


def test_a_refused_point_searches_on_as_if_it_had_not_claimed() -> None:
    refused: list[int] = []

    def once(rows: State) -> Tensor:
        fresh = torch.tensor([int(number) not in refused for number in rows.points.ids])
        refused.extend(rows.points.ids[fresh].tolist())
        return ~fresh

    plain = Run(APGD(THREAT, steps=8), 32)
    again = Run(APGD(THREAT, steps=8), 32, confirm=once)
    assert set(refused) == set(plain.broken.nonzero()[:, 0].tolist())
    assert bool((again.forwards[plain.broken] > plain.forwards[plain.broken]).any())
    assert not bool((again.broken & ~plain.broken).any())
    never = Run(APGD(THREAT, steps=8), 32, confirm=lambda rows: torch.zeros_like(rows.broken))
    assert not bool(never.broken.any())
    assert (never.forwards == 9).all()


def test_running_out_of_memory_halves_the_slots_and_changes_nothing() -> None:
    model, _, _ = conv_case(count=1)
    sizes: list[int] = []

    def small(images: Tensor) -> object:
        sizes.append(len(images))
        if len(images) > 32:
            raise torch.OutOfMemoryError("no room")
        return model(images)

    tight, roomy = Run(ATTACKS[1](), 128, model=small), Run(ATTACKS[1](), 32)
    assert sorted(tight.seen) == list(range(70))
    assert torch.equal(tight.x_adv, roomy.x_adv)
    assert sizes[:3] == [80, 48, 32]

    def none(images: Tensor) -> object:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        Run(ATTACKS[1](), 64, model=none)


@pytest.mark.parametrize("most", [48, 32])
def test_running_out_of_memory_at_the_beginning_of_points_changes_nothing(most: int) -> None:
    class Tight(APGDT):
        refused = False

        def begin(self, points: Points, start: Tensor | None = None) -> ApgdState:
            refill = len(points.x) < 16
            if len(points.x) > most or (refill and not self.refused):
                self.refused |= refill
                raise torch.OutOfMemoryError("no room")
            return super().begin(points, start)

    attack = Tight(THREAT, steps=8, targets=3)
    tight, roomy = Run(attack, 128), Run(ATTACKS[1](), 128)
    assert attack.refused
    assert sorted(tight.seen) == list(range(70))
    assert torch.equal(tight.x_adv, roomy.x_adv)
    assert torch.equal(tight.forwards, roomy.forwards)


def test_slots() -> None:
    assert [slots_for(size, 500) for size in (1, 16, 17, 500, 10**6)] == [16, 16, 32, 512, 512]
    assert slots_for(1, 1) == ROWS


def test_no_work_is_no_step() -> None:
    assert Run(ATTACKS[0](), 16, count=0).counted.forwards == 0
