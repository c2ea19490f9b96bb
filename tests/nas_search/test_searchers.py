"""What the edges of a supernet compute in one forward, by the name of the search."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robustsabn.trainers.nas.search.searchers import SEARCHERS, random_cells, temperature
from robustsabn.trainers.nas.search.step import SearchStep

Batches = list[tuple[Tensor, Tensor]]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def architecture() -> Tensor:
    return torch.randn(6, 5, dtype=torch.float64, generator=source(1)).requires_grad_()


def test_the_temperature_falls_from_10_to_a_tenth() -> None:
    assert [round(temperature(done), 9) for done in (0, 0.5, 1)] == [10, 5.05, 0.1]


def test_gdas_draws_by_the_softmax_of_the_architecture() -> None:
    alpha, generator, draws = architecture(), source(), 4000
    counts = torch.zeros(6, 5)
    for _ in range(draws):
        weights, path = SEARCHERS["gdas"].edges(alpha, 0.7, generator)
        assert weights is not None
        assert path == tuple(weights.argmax(1).tolist())
        hot = torch.nn.functional.one_hot(torch.tensor(path), 5)
        assert (weights - hot).abs().max() < 1e-15
        counts += hot
    p = alpha.detach().softmax(1)  # at every temperature: the largest of logits and Gumbel noise
    deviation = (draws * p * (1 - p)).sqrt()
    assert ((counts - draws * p).abs() < 5 * deviation).all()


def test_the_gradient_of_gdas_is_straight_through(make: Callable[..., SearchStep], batches: Batches) -> None:
    """The loss by the weights of the chosen operations, times the derivatives of p, by differences."""
    bench, step, eps = make("gdas"), 4, 1e-6
    network = bench.supernet
    bench.architecture_loss(step, 10, batches[1], batches[0], None)  # type: ignore[arg-type]
    way = bench._way("architecture", step, 10, network.architecture.detach())
    assert way.edges.path is not None
    weights = torch.nn.functional.one_hot(torch.tensor(way.edges.path), 5).double().requires_grad_()
    x, y = batches[1]
    z = type(way)(way.edges._replace(weights=weights), way.routes).logits(network, x)
    (of_weights,) = torch.autograd.grad(torch.nn.functional.cross_entropy(z, y), weights)
    assert ((of_weights != 0).sum(1) <= 1).all()
    expected = torch.zeros(6, 5, dtype=torch.float64)
    for edge in range(6):
        for operation in range(5):
            sides = []
            for sign in (1, -1):
                moved = network.architecture.detach().clone()
                moved[edge, operation] += sign * eps
                sides.append(soft(bench, moved, step))
            expected[edge, operation] = (of_weights * (sides[0] - sides[1]) / (2 * eps)).sum()
    assert network.architecture.grad is not None
    torch.testing.assert_close(network.architecture.grad, expected, rtol=1e-6, atol=1e-9)


def soft(bench: SearchStep, alpha: Tensor, step: int) -> Tensor:
    """p of the same noise: the hard weights of another architecture have its gradient, not its value."""
    noise = torch.empty_like(alpha).exponential_(generator=bench._source("architecture", step))
    logits = alpha - alpha.logsumexp(1, keepdim=True) - noise.log()
    return (logits / temperature(step / 10)).softmax(1)


@pytest.mark.parametrize("search", ["random-sharing", "random"])
def test_random_paths_are_uniform(search: str) -> None:
    counts, generator, draws = torch.zeros(6, 5), source(), 2000
    for _ in range(draws):
        weights, path = SEARCHERS[search].edges(architecture(), 0.0, generator)
        assert weights is None
        assert path is not None
        counts += torch.nn.functional.one_hot(torch.tensor(path), 5)
    assert ((counts - draws / 5).abs() < 5 * (draws * 0.2 * 0.8) ** 0.5).all()


def test_random_cells_are_different_and_depend_on_the_generator_alone() -> None:
    cells = random_cells(300, source())
    assert len(set(cells)) == 300
    assert cells == random_cells(300, source())
    assert cells != random_cells(300, source(1))
    assert len(random_cells(20_000, source())) == 15_625
