"""A report with every kind of sample in it, for the tests of what is written about reports."""

import torch
from torch import Tensor

from robustsabn.attacks.report import AttackCost, Flag, Report

COSTS = (
    AttackCost(
        name="apgd-ce", points=9, broken=3, robust_accuracy=0.6, forwards=927, backwards=909, seconds=1.5
    ),
    AttackCost(
        name="square", points=6, broken=1, robust_accuracy=0.5, forwards=30024, backwards=0, seconds=200.0
    ),
)
FLAGS = (
    Flag(name="randomised", severity="note", count=0, ids=(), message="Two forwards agree."),
    Flag(
        name="square-only",
        severity="warning",
        count=1,
        ids=(104,),
        message="Square alone broke 1 image; <gradients> may be masked.",
    ),
)


def report_case(shape: tuple[int, ...] = (3, 8, 8), seed: int = 0) -> tuple[Report, Tensor]:
    """Ten samples with ids 109 down to 100: one wrong, three broken by APGD, one by Square, five robust."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(10, *shape, generator=g).mul_(0.8).add_(0.1)
    clean = torch.arange(10) != 0
    robust = torch.arange(10) >= 5
    broken_by = torch.tensor([-1, 0, 0, 0, 1, *[-1] * 5])
    noise = torch.randint(0, 2, x.shape, generator=g) * 2.0 - 1
    delta = 0.05 * noise * (broken_by >= 0).view(-1, *[1] * len(shape))
    y = torch.arange(10) % 3
    report = Report(
        norm="Linf",
        eps=0.05,
        bounds=(0.0, 1.0),
        version="standard",
        seed=7,
        classes=3,
        ids=torch.arange(109, 99, -1),
        y=y,
        clean=clean,
        robust=robust,
        x_adv=x + delta,
        clean_prediction=torch.where(clean, y, (y + 1) % 3),
        adversarial_prediction=torch.where(robust, y, (y + 1) % 3),
        broken_by=broken_by,
        target=torch.where(broken_by == 1, (y + 1) % 3, -1),
        iteration=torch.where(broken_by >= 0, 12, -1),
        margin=torch.where(robust, 1.5, -0.25) + torch.arange(10) / 100,
        distance=0.05 * (broken_by >= 0),
        fragile=torch.arange(10) == 5,
        attacks=COSTS,
        flags=FLAGS,
        seconds=210.0,
        versions={"python": "3", "torch": "2", "robustsabn": "0", "device": "cpu"},
    )
    return report, x
