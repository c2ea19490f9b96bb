"""Cost of a step of each method in forwards (F), counted by operations of convolutions and products.

A forward is 1F a sample, an input gradient 1F more, and a gradient of the weights takes a full backward, 2F.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from robustsabn.conversion.convert import convert
from robustsabn.trainers.methods import METHODS, Method, Oat
from tests.helpers.methods import bench_for

COSTS: dict[str, float] = {
    "standard": 3,
    "pgd": 23,
    "paired": 20,
    "trades": 27,
    "mart": 26,
    "fgsm-rs": 5,
    "n-fgsm": 5,
    "gradalign": 11,
    "pgd-awp": 26,
    "trades-awp": 33,
    "mart-awp": 32,
    "paired-awp": 26,
    "advprop": 16,
    "fast-advprop": 3.6,  # one image in five
    "free": 3,  # a replay
}


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating point operations, those of backward passes included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += float(count(*args, **(kwargs or {}), out_val=out))
        return out


def network() -> nn.Sequential:
    # a first layer of no weight: its input gradient is not needed in training
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 1, 1),
        nn.Conv2d(1, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 3),
    )


def forwards(method: Method, norm: str) -> float:
    n = 10
    model = network() if norm == "none" else convert(network(), norm=norm)
    model.train()
    x, y = torch.rand(n, 1, 4, 4), torch.arange(n) % 3
    bench = bench_for(model, n, steps=None)
    with Flops() as once, torch.no_grad():
        model(x)
    with Flops() as step, bench.at(10):  # past the warm-up epochs
        losses: dict[str, Any] = method.losses(bench, x, y)
        losses["loss"].backward()
    return float(step.total / once.total)


NAMES = set(METHODS)  # before other tests register theirs
ROUTED = ("advprop", "fast-advprop")  # without routes they refuse


@pytest.mark.parametrize(
    ("name", "norm"),
    [(n, r) for n in COSTS for r in ("none", "saauxbn") if not (r == "none" and n in ROUTED)],
)
def test_cost(name: str, norm: str) -> None:
    assert forwards(METHODS[name](), norm) == pytest.approx(COSTS[name], rel=0.005)


@pytest.mark.parametrize(("share", "cost"), [(0.0, 3), (0.5, 20), (1.0, 17)])
def test_cost_of_oat_depends_on_what_was_drawn(share: float, cost: float) -> None:
    assert forwards(Oat((share,)), "saauxbn") == pytest.approx(cost, rel=0.005)


def test_every_method_is_counted() -> None:
    assert {*COSTS, "oat"} == NAMES
