"""One step of every training method, with attack, update and averages, on a device without values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from robustsabn import convert
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step import adversarial_step
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.config import AdamW, Cosine, Optim, Sgd
from robustsabn.trainers.loop.averages import Average, Ema, Swa
from robustsabn.trainers.loop.finite import Guard
from robustsabn.trainers.loop.updates import Update, build_optimizer
from robustsabn.trainers.methods import METHODS
from robustsabn.trainers.processes.distributed import Network
from tests.helpers.device import META, no_copies
from tests.helpers.methods import network

N, TOTAL = 10, 40
STEP = 11
"""After the warm-up, of as many epochs, of weight perturbation."""
NAMES = [name for name, kind in METHODS.items() if kind.__module__.startswith("robustsabn.")]
SGD = Sgd(lr=0.1, clip=1.0)


@pytest.fixture
def acc(meta_accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    """The device meta has no generators, so draws take none."""
    monkeypatch.setattr(adversarial_step, "generator", lambda device, *seed: None)
    return meta_accelerator


def step_of(acc: Accelerator, method: Any, y: Tensor, optim: Optim = SGD, **attack: Any) -> None:
    """What the loop does in a step."""
    model = convert(network(), "saauxbn").to(META).train()
    bench = AdversarialStep(
        acc,
        model,
        model,
        Attack(**{"eps": 0.06, "steps": 1, **attack}),
        seed=0,
        batch_size=N,
        share=slice(0, N),
        classes=3,
    )
    update = Update(acc, build_optimizer(model, optim), optim, Cosine(), {"model": Network(model, model)})
    averages: list[Average] = [
        Ema(model, 0.99),
        Ema(model, 0.99, "averaged"),
        Swa(model=model, start=0, stride=1, total=TOTAL),
    ]
    guard = Guard(acc, Path(), [model], lambda step: {}, "")
    x = torch.empty(N, 1, 4, 4, device=META)
    with no_copies():
        with bench.at(STEP):
            losses = method.losses(bench, x, y)
            acc.backward(losses["loss"])
        assert all(p.grad is not None for p in model.parameters())
        update(STEP, TOTAL)
        for average in averages:
            average.update(STEP)
        guard.watch(STEP, losses["loss"])
    assert all(value.is_meta and not value.ndim for value in losses.values())
    assert all(p.grad is None for p in model.parameters())
    for average in averages:
        with no_copies(), average.in_place():
            model(x)


def labels() -> Tensor:
    return torch.empty(N, dtype=torch.long, device=META)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_every_method(name: str, acc: Accelerator) -> None:
    step_of(acc, METHODS[name](), labels())


@pytest.mark.parametrize("name", ["standard", "pgd", "paired", "trades", "free", "oat"])
def test_mixed_labels(name: str, acc: Accelerator) -> None:
    assert METHODS[name].mixes
    step_of(acc, METHODS[name](), torch.empty(N, 3, device=META))


@pytest.mark.parametrize(
    ("name", "forward"), [("paired", "separate"), ("trades", "split"), ("fast-advprop", "separate")]
)
def test_the_other_way_to_make_forwards(name: str, forward: str, acc: Accelerator) -> None:
    step_of(acc, METHODS[name](forward=forward), labels())


@pytest.mark.parametrize("bn_mode", ["train", "frozen"])
def test_attacks_that_normalise_with_the_batch(bn_mode: str, acc: Accelerator) -> None:
    step_of(acc, METHODS["paired"](), labels(), bn_mode=bn_mode)


@pytest.mark.parametrize(("name", "norm"), [("pgd", "L2"), ("free", "L2"), ("pgd", "L1")])
def test_other_norms_and_another_optimiser(name: str, norm: str, acc: Accelerator) -> None:
    step_of(acc, METHODS[name](), labels(), AdamW(lr=0.1), norm=norm)
