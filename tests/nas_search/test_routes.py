"""Routes from operations: by number, drawn, and blended."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.models.nas import Supernet, supernet
from robustsabn.nas import EDGES
from robustsabn.routing import Blend
from robustsabn.trainers.nas.search.routes import blended, of_operations, route_numbers, sampled

WEIGHTS = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(1)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_numbers_are_base_5_of_the_operations_into_a_node() -> None:
    for operations in product((0, 1, 4), (0, 3), (2, 4), (1,), (0,), (3,)):
        into: dict[int, dict[int, int]] = {}
        for (target, start), operation in zip(EDGES, operations, strict=True):
            into.setdefault(target, {})[start] = operation
        assert route_numbers(operations) == (0, into[1][0], into[2][0] + 5 * into[2][1])


def test_the_input_of_the_first_cell_takes_the_shared_affine_only_where_there_is_one() -> None:
    for norm, first in (("sabn", None), ("ccbn", 0)):
        model = supernet(3, norm=norm, channels=2, cells=2)
        routes = of_operations(model, (3, 4, 2, 0, 0, 0))
        assert [routes[router] for router in model.cells[0].routers] == [first, 3, 14]
        for cell in model.cells[1:]:
            assert [routes[router] for router in cell.routers] == [0, 3, 14]
        faithful = of_operations(model, (3, 4, 2, 0, 0, 0), faithful=True)
        assert faithful[model.cells[0].routers[0]] == 0


def test_norms_without_routes_have_no_selections() -> None:
    model = supernet(3, norm="bn", channels=2, cells=1)
    for routes in (
        of_operations(model, (1,) * 6),
        sampled(model, WEIGHTS, source()),
        blended(model, WEIGHTS),
    ):
        assert routes == {}


def test_each_edge_of_each_cell_is_drawn_by_its_weights(network: Supernet) -> None:
    draws = 1500
    counts, pairs, generator = torch.zeros(5), torch.zeros(25), source()
    for _ in range(draws):
        routes: Any = sampled(network, WEIGHTS, generator)
        for cell in network.cells:
            counts[routes[cell.routers[1]]] += 1
            pairs[routes[cell.routers[2]]] += 1
    n = draws * len(network.cells)
    for found, p in ((counts, WEIGHTS[0]), (pairs, torch.outer(WEIGHTS[2], WEIGHTS[1]).flatten())):
        deviation = (n * p * (1 - p)).sqrt()  # of a binomial count
        assert ((found - n * p).abs() < 5 * deviation).all()


def test_cells_are_drawn_independently_and_from_the_generator_alone(network: Supernet) -> None:
    routes = sampled(network, WEIGHTS, source(3))
    assert routes == sampled(network, WEIGHTS, source(3))
    assert any(routes != sampled(network, WEIGHTS, source(seed)) for seed in range(3))
    numbers = {
        tuple(sampled(network, WEIGHTS, source(s))[cell.routers[2]] for s in range(8))
        for cell in network.cells
    }
    assert len(numbers) == len(network.cells)


def test_blends_of_one_route_are_the_numbers(network: Supernet) -> None:
    numbers = sampled(network, WEIGHTS, source(5))
    blends = sampled(network, WEIGHTS, source(5), numbers=False)
    for router, number in numbers.items():
        selection = blends[router]
        if isinstance(selection, Blend):
            assert isinstance(selection.weights, Tensor)
            assert selection.weights.tolist() == [float(route == number) for route in range(len(router))]
        else:
            assert selection == number


def test_blends_have_the_products_of_the_weights(network: Supernet) -> None:
    weights = WEIGHTS.clone().requires_grad_()
    routes: Any = blended(network, weights)
    for cell in network.cells:
        for o in range(5):
            torch.testing.assert_close(routes[cell.routers[1]].weights[o], weights[0, o])
        for o, p in product(range(5), repeat=2):
            found = routes[cell.routers[2]].weights[o + 5 * p]
            torch.testing.assert_close(found, weights[1, o] * weights[2, p])
    assert routes[network.cells[0].routers[0]] is None
    assert routes[network.cells[1].routers[0]] == 0
    routes[network.cells[0].routers[2]].weights[7].backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad[1, 2], weights[2, 1].detach())


@pytest.mark.parametrize("norm", ["ccbn", "sabn"])
def test_every_router_has_a_selection(norm: str) -> None:
    model = supernet(3, norm=norm, channels=2, cells=2)
    routers = {router for cell in model.cells for router in cell.routers}
    assert set(sampled(model, WEIGHTS, source())) == routers
    assert set(blended(model, WEIGHTS)) == routers
