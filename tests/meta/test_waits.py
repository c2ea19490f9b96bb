"""The places where the host waits for the device on purpose: all of them with reasons, and that they do wait.

Whatever else a step does waits for nothing, or the other tests in this folder fail. Besides these, a run
waits at every line of its log (`log_every`), validation and checkpoint; several processes do about once a
second, to learn of each other's signals; AutoAttack does once an iteration, to see whether every point is
broken; and torch's kernel for statistics of a whole batch over processes, which leaves out empty ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn import convert
from robustsabn.attacks import PGD, ThreatModel
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.search.apgd import APGD
from robustsabn.attacks.search.base import Points, Search
from robustsabn.attacks.search.fab import FAB
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.loop.finite import Guard
from robustsabn.trainers.methods import METHODS
from robustsabn.trainers.nas.search.searchers import SEARCHERS
from tests.helpers.device import META, Copies, Looks
from tests.helpers.methods import images, network

N = 5
LINF = ThreatModel("Linf", 0.1)


class Wait(NamedTuple):
    """What waits, how often and why; `does` is refused by a device without values."""

    reason: str
    does: Callable[[], object]


def attack(**options: object) -> Tensor:
    x, y = torch.empty(N, 1, 4, 4, device=META), torch.empty(N, dtype=torch.long, device=META)
    pgd = PGD(LINF, steps=2, **{"check": False, **options})  # type: ignore[arg-type]
    return pgd(network().to(META).eval(), x, y)


def one_value_an_image() -> Tensor:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).to(META)
    x, y = torch.empty(N, 1, 4, 4, device=META), torch.empty(N, dtype=torch.long, device=META)
    return PGD(LINF, check=False)(model.eval(), x, y)


def step_of(search: Search[Any], countdown: int) -> None:
    x, ids = torch.empty(N, 1, 4, 4, device=META), torch.empty(N, dtype=torch.long, device=META)
    with torch.no_grad():
        state = search.begin(Points.of(x, ids, ids, LINF, torch.empty(N, 3, device=META)))
        state.countdown = countdown
        search.step(state, CountedModel(network().to(META).eval()))


def weights_before_a_checkpoint() -> None:
    Guard(Accelerator(cpu=True), Path(), [network().to(META)], lambda step: {}, "").check_weights(0)


def drawn_operations() -> None:
    source: Any = None  # there are no generators on the device meta
    SEARCHERS["gdas"].edges(torch.empty(6, 5, device=META), 0.5, source)


WAITS = {
    "PGD, check=True": Wait(
        "images, labels before; what was found after: twice an attack", lambda: attack(check=True)
    ),
    "PGD, restarts": Wait(
        "the next run leaves broken images out: once a restart", lambda: attack(restarts=2)
    ),
    "PGD, early_stop": Wait("broken images leave the batch: once a step", lambda: attack(early_stop=True)),
    "one value per image": Wait("may be a probability: once an attack", one_value_an_image),
    "a radius per image": Wait(
        "the largest is known from then on: once", lambda: ThreatModel("Linf", torch.ones(N, device=META))
    ),
    "APGD": Wait("rows whose run ends begin the next: once a run", lambda: step_of(APGD(LINF), 0)),
    "FAB": Wait("Newton's method ends early: once in 8 of its turns", lambda: step_of(FAB(LINF), 3)),
    "GDAS": Wait("the host runs the operations that are drawn: twice a step", drawn_operations),
    "checkpoint": Wait("nothing broken is saved: once a checkpoint", weights_before_a_checkpoint),
}


@pytest.mark.parametrize("place", WAITS)
def test_waits(place: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError, ValueError), match="meta"):
        WAITS[place].does()


def test_a_folded_copy_is_compared_with_its_network_at_the_first_attack_alone() -> None:
    """Once per checkpoint; attacks between update its weights. Values are needed, so this runs on the CPU."""
    torch.manual_seed(0)
    model, (x, y) = convert(network(), "saauxbn").train(), images()
    bench = AdversarialStep(
        Accelerator(cpu=True),
        model,
        model,
        Attack(eps=0.06, steps=2),
        seed=0,
        batch_size=len(x),
        share=slice(0, len(x)),
        classes=3,
        fold=True,
    )
    counts = []
    for step in range(3):
        with bench.at(step), Looks() as looks:
            METHODS["paired"]().losses(bench, x, y)["loss"].backward()
        counts.append(looks.count)
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
    assert bench.folded_copies.made["adv"] is not None
    bench.folded_copies.clear()
    with bench.at(3), Looks() as looks:
        bench.attack(x, y)
    assert looks.count > 0


# what is counted


COPIES: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda t: torch.tensor([0.3, 0.7], device=META),
    "as_tensor": lambda t: torch.as_tensor([1, 2], device=META),
    "new_tensor": lambda t: t.new_tensor([1.0]),
    "to": lambda t: torch.ones(3).to(META),
    "to of a number": lambda t: torch.tensor(1.0).to(META),
    "number written at a place": lambda t: t[0].__setitem__(1, 0.5),
    "list as an index": lambda t: t[[0, 1]],
    "indices from the host": lambda t: t[torch.arange(2)],
    "copy_": lambda t: t.copy_(torch.ones(3, 3)),
}
NONE: dict[str, Callable[[Tensor], object]] = {
    "fill of a row": lambda t: t.__setitem__(0, 0.5),
    "fill": lambda t: t.select(0, 1).fill_(0.5),
    "number": lambda t: torch.where(t > 0.5, t * 2.0, 0.0),
    "number in a tensor": lambda t: t + torch.tensor(1.0),
    "to, not waited for": lambda t: torch.ones(3).to(META, non_blocking=True),
    "made there": lambda t: torch.arange(3, device=META),
    "indices from there": lambda t: t[torch.arange(2, device=META)],
    "moved there": lambda t: t.to(torch.float64),
}


@pytest.mark.parametrize("call", [*COPIES, *NONE])
def test_copies_are_noted(call: str) -> None:
    t = torch.empty(3, 3, device=META)
    with Copies() as copies:
        {**COPIES, **NONE}[call](t)
    assert bool(copies.found) == (call in COPIES)


def test_looks_are_counted() -> None:
    t = torch.ones(3)
    with Looks() as looks:
        found = [float(t.sum()), bool((t > 0).all()), t[t > 0], torch.equal(t, t + 0), t.nonzero()]
    assert looks.count == len(found)
    with Looks() as looks:
        torch.where(t > 0, t, 0.0).sum()
    assert looks.count == 0
