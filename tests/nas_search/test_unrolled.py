"""The second-order gradient against the loss after a real step of torch's SGD, by differences in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.trainers.nas.search import unrolled
from robustsabn.trainers.nas.search.step import SearchStep

Batches = list[tuple[Tensor, Tensor]]
Make = Callable[..., SearchStep]


def trained(bench: SearchStep, batches: Batches, nesterov: bool) -> Any:
    """The SGD of the weights after two steps, so that it has momentum."""
    optimizer = torch.optim.SGD(bench.weights, 0.1, 0.9, weight_decay=1e-2, nesterov=nesterov)
    for step in range(2):
        bench.weights_loss(step, 10, batches[0])
        optimizer.step()
        bench.supernet.zero_grad()
    return SimpleNamespace(optimizer=optimizer)


def after_a_step(bench: SearchStep, update: Any, batches: Batches, step: int) -> Tensor:
    """The loss of the architecture once SGD itself has made the step of the weights; both are copies."""
    other, optimizer = copy.deepcopy((bench, update.optimizer))
    architecture = other.supernet.architecture.detach()
    torch.autograd.backward(other._loss(batches[0], other._way("unrolled", step, 10, architecture)))
    optimizer.step()
    with torch.no_grad():
        return other._loss(batches[1], other._way("architecture", step, 10, architecture))


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_gradient_looks_one_step_of_sgd_ahead(
    make: Make, batches: Batches, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make("darts-second-order", routes="blended")
    update, alpha = trained(bench, batches, nesterov), bench.supernet.architecture
    expected = torch.zeros_like(alpha)
    places = [(0, 3), (1, 1), (2, 0), (3, 2), (5, 4)]
    for place in places:
        sides = []
        for sign in (1, -1):
            alpha.data[place] += sign * 1e-5
            sides.append(after_a_step(bench, update, batches, 2))
            alpha.data[place] -= sign * 1e-5
        expected[place] = (sides[0] - sides[1]) / 2e-5
    monkeypatch.setattr(unrolled, "STEP", 1e-5)  # shorter than the way to the next kink of a ReLU
    loss = bench.architecture_loss(2, 10, batches[1], batches[0], update)
    torch.testing.assert_close(loss, after_a_step(bench, update, batches, 2))
    assert alpha.grad is not None
    first_order = make("darts", routes="blended")
    first_order.supernet.load_state_dict(bench.supernet.state_dict())
    first_order.architecture_loss(2, 10, batches[1], batches[0], update)
    one = first_order.supernet.architecture.grad
    assert one is not None
    for place in places:
        torch.testing.assert_close(alpha.grad[place], expected[place], rtol=1e-4, atol=1e-7)
    assert max((one - expected)[place].abs() for place in places) > 1e-3


def test_it_takes_four_passes_and_leaves_everything_as_it_was(
    make: Make, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make("darts-second-order")
    update = trained(bench, batches, True)
    network, optimizer = bench.supernet, update.optimizer
    passes = {"forward": 0, "backward": 0}
    gradient = torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes["backward"] += 1
        return gradient(*args, **kwargs)

    def forward(*_: Any) -> None:
        passes["forward"] += 1

    monkeypatch.setattr(torch.autograd, "grad", counted)
    network.register_forward_hook(forward)
    before = copy.deepcopy((network.state_dict(), optimizer.state_dict())), torch.get_rng_state()
    bench.architecture_loss(2, 10, batches[1], batches[0], update)
    assert passes == {"forward": 4, "backward": 4}
    (weights, state), rng = before
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights[name]), name
    for number, held in optimizer.state_dict()["state"].items():
        assert torch.equal(held["momentum_buffer"], state["state"][number]["momentum_buffer"])
    assert optimizer.state_dict()["param_groups"] == state["param_groups"]
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(p.grad is None for p in bench.weights)
    assert all(p.requires_grad for p in network.parameters())
    bench.weights_loss(2, 10, batches[0])
    assert passes["forward"] == 5


def test_the_first_order_takes_one_pass(make: Make, batches: Batches) -> None:
    bench, calls = make("darts"), []
    bench.supernet.register_forward_hook(lambda *_: calls.append(1))
    bench.architecture_loss(0, 10, batches[1], batches[0], None)  # type: ignore[arg-type]
    bench.weights_loss(0, 10, batches[0])
    assert len(calls) == 2
