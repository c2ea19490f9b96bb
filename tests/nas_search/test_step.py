"""One step of a search: losses, gradients, what stays as it is, evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.models.nas import Supernet
from robustsabn.nas import Cell
from robustsabn.trainers.nas.search.step import SearchStep

Batches = list[tuple[Tensor, Tensor]]
Make = Callable[..., SearchStep]
NO_UPDATE: Any = None


def buffers(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def loss_at(bench: SearchStep, purpose: str, step: int, batch: tuple[Tensor, Tensor]) -> Tensor:
    architecture = bench.supernet.architecture.detach()
    return bench._loss(batch, bench._way(purpose, step, 10, architecture))


def slope(entry: Tensor, value: Callable[[], Tensor], eps: float = 1e-6) -> Tensor:
    """The derivative of `value` by one number, by differences."""
    with torch.no_grad():
        entry += eps
        above = value()
        entry -= 2 * eps
        below = value()
        entry += eps
    return (above - below) / (2 * eps)


@pytest.mark.parametrize("search", ["darts", "gdas", "random-sharing"])
@pytest.mark.parametrize("routes", ["sampled", "blended"])
def test_the_weights_get_the_gradient_of_their_loss(
    make: Make, batches: Batches, search: str, routes: Any
) -> None:
    bench = make(search, routes=routes)
    before = buffers(bench.supernet)
    loss = bench.weights_loss(3, 10, batches[0])
    assert bench.supernet.architecture.grad is None
    torch.testing.assert_close(loss, loss_at(bench, "weights", 3, batches[0]).detach())
    assert not torch.equal(before["bn1.running_mean"], bench.supernet.get_buffer("bn1.running_mean"))
    reached = [p for p in bench.weights if p.grad is not None]
    assert bench.supernet.conv1.weight.grad is not None
    for parameter in reached[:: max(1, len(reached) // 5)]:
        place = (0,) * parameter.ndim
        assert parameter.grad is not None
        expected = slope(parameter.data[place], lambda: loss_at(bench, "weights", 3, batches[0]))
        torch.testing.assert_close(parameter.grad[place], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("norm", ["bn", "ccbn", "sabn"])
@pytest.mark.parametrize("routes", ["sampled", "blended"])
def test_the_architecture_gets_the_gradient_of_its_loss(
    make: Make, batches: Batches, norm: str, routes: Any
) -> None:
    """Drawn routes do not depend on the architecture; blended ones do."""
    bench = make("darts", norm, routes=routes)
    network, state = bench.supernet, torch.get_rng_state()
    before, weights = buffers(network), [p.detach().clone() for p in bench.weights]
    drawn = bench._way("architecture", 3, 10, network.architecture.detach()).routes
    loss = bench.architecture_loss(3, 10, batches[1], batches[0], NO_UPDATE)

    def value() -> Tensor:
        way = bench._way("architecture", 3, 10, network.architecture.detach())
        return bench._loss(batches[1], way if routes == "blended" else type(way)(way.edges, drawn))

    torch.testing.assert_close(loss, value())
    assert all(p.grad is None for p in bench.weights)
    assert all(p.requires_grad for p in network.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert network.architecture.grad is not None
    for place in ((0, 0), (0, 3), (1, 1), (2, 2), (4, 4)):
        expected = slope(network.architecture.data[place], value)
        torch.testing.assert_close(network.architecture.grad[place], expected, rtol=1e-4, atol=1e-8)
    network.load_state_dict(before, strict=False)  # `value` has moved them
    again = buffers(network)
    bench.architecture_loss(3, 10, batches[1], batches[0], NO_UPDATE)
    for name, buffer in network.named_buffers():
        assert torch.equal(again[name], buffer), name
    for parameter, kept in zip(bench.weights, weights, strict=True):
        assert torch.equal(parameter, kept)


@pytest.mark.parametrize("search", ["darts", "gdas", "random-sharing"])
def test_draws_depend_on_seed_step_and_purpose_alone(make: Make, search: str) -> None:
    bench, alpha = make(search), torch.zeros(6, 5, dtype=torch.float64)

    def drawn(purpose: str, step: int) -> Any:
        way = bench._way(purpose, step, 100, alpha)
        return way.edges.path, list(way.routes.values())

    first = [drawn("weights", step) for step in range(4)]
    torch.manual_seed(9)
    assert first == [drawn("weights", step) for step in range(4)]
    assert first != [drawn("architecture", step) for step in range(4)]
    assert len({str(each) for each in first}) > 1


def test_a_path_takes_the_routes_of_its_operations(make: Make) -> None:
    for search in ("gdas", "random-sharing"):
        bench = make(search)
        way = bench._way("weights", 1, 10, bench.supernet.architecture.detach())
        assert way.edges.path is not None
        assert way.routes == bench.evaluated(Cell(way.edges.path)).routes


@pytest.mark.parametrize("routes", ["sampled", "blended"])
def test_evaluations_are_the_same_every_time(make: Make, batches: Batches, routes: Any) -> None:
    bench = make("darts", routes=routes)
    network, (x, _) = bench.supernet, batches[0]
    network.eval()
    weights, cell = network.architecture.softmax(1), Cell((3, 1, 2, 0, 4, 3))
    for chosen in (weights, cell):
        with torch.no_grad():
            first, second = (bench.evaluated(chosen, step).logits(network, x) for step in range(2))
        assert torch.equal(first, second)
    operations = tuple(weights.argmax(1).tolist())
    assert bench.found() == Cell(operations)
    if routes == "sampled":
        assert bench.evaluated(weights).routes == bench.evaluated(Cell(operations)).routes
    assert bench.evaluated(cell).edges.path == cell.operations


def test_the_published_evaluation_draws_routes(make: Make, network: Supernet) -> None:
    bench = make("darts", faithful=True)
    weights = bench.supernet.architecture.softmax(1)
    first = bench.supernet.cells[0].routers[0]
    drawn = [bench.evaluated(weights, step).routes for step in range(4)]
    assert any(routes != drawn[0] for routes in drawn)
    assert all(routes[first] == 0 for routes in drawn)
    assert drawn[1] == bench.evaluated(weights, 1).routes


def test_the_published_step_moves_running_statistics_twice(make: Make, batches: Batches) -> None:
    bench = make("darts", faithful=True)
    before = buffers(bench.supernet)
    bench.architecture_loss(0, 10, batches[1], batches[0], NO_UPDATE)
    assert not torch.equal(before["bn1.running_mean"], bench.supernet.get_buffer("bn1.running_mean"))
