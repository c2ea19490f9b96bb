"""The supernet against slow loops in float64, the network of a single cell, and finite differences."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, one_hot

from robustsabn import Blend, route
from robustsabn.errors import ModelError
from robustsabn.layers import RoutedBatchNorm2d
from robustsabn.models.nas import Supernet, nas_bench_201, supernet
from robustsabn.nas import EDGES, OPERATIONS, Cell
from robustsabn.routing import maybe_route, routers_of

NORMS = ("bn", "bn-affine", "ccbn", "sabn")
CELL = Cell((3, 4, 2, 1, 3, 2))


def small(norm: str, **options: Any) -> Supernet:
    torch.manual_seed(0)
    model = supernet(3, 2, norm=norm, channels=2, cells=1, **options).double()
    for parameter in model.parameters():  # affines that are neither 1 nor 0
        if parameter.ndim == 1:
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def mixture() -> Tensor:
    return torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).softmax(1)


def affines(norm: Any, weight_of_route: dict[int, float] | None) -> list[tuple[float, Tensor, Tensor]]:
    """Weight, scale and shift of each route; None stands for the shared affine alone."""
    own = dict(norm.named_parameters())
    ones, zeros = torch.ones(norm.num_features).double(), torch.zeros(norm.num_features).double()
    g, b = own.get("weight", ones), own.get("bias", zeros)
    if weight_of_route is None or "route_weight" not in own:
        return [(1.0, g, b)]
    table = [own[name].view(-1, norm.num_features) for name in ("route_weight", "route_bias")]
    return [(w, table[0][r] * g, table[0][r] * b + table[1][r]) for r, w in weight_of_route.items()]


def normalised(x: Tensor, norm: Any, weight_of_route: dict[int, float] | None) -> Tensor:
    out = torch.zeros_like(x)
    for channel in range(x.shape[1]):
        values = x[:, channel]
        xhat = (values - values.mean()) / (values.var(correction=0) + norm.eps).sqrt()
        for weight, scale, shift in affines(norm, weight_of_route):
            out[:, channel] += weight * (scale[channel] * xhat + shift[channel])
    return out


Weighted = dict[int, float]
"""The weight of each route of a router."""


def looped(model: Supernet, x: Tensor, weights: Tensor, routes: list[list[Weighted | None]]) -> Tensor:
    """The supernet as a loop over cells, edges and operations; routes of each router of each cell."""
    h, at = model.before(x), 0
    layers: Any = model.layers
    for layer in layers:
        if layer not in model.cells:
            h = layer(h)
            continue
        nodes = [h, *(torch.zeros_like(h) for _ in range(3))]
        for edge, (target, source) in enumerate(EDGES):
            value = nodes[source]
            for operation, name in enumerate(OPERATIONS):
                if name == "skip_connect":
                    y = value
                elif name == "avg_pool_3x3":
                    y = avg_pool2d(value, 3, 1, 1, count_include_pad=False)
                elif name == "none":
                    y = torch.zeros_like(value)
                else:
                    _, conv, norm = layer.edges[edge][name]
                    y = conv2d(value.clamp(min=0), conv.weight, padding=conv.padding)
                    y = normalised(y, norm, routes[at][source])
                nodes[target] = nodes[target] + weights[edge, operation] * y
        h, at = nodes[3], at + 1
    return model.after(h)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("how", ["routes", "blend"])
def test_forward_and_gradients_are_those_of_a_loop(norm: str, how: str) -> None:
    model, x, weights = small(norm), images(), mixture().requires_grad_()
    selection: dict[Any, Any] = {}
    routes: list[list[Weighted | None]] = []
    for number, cell in enumerate(model.cells):
        if how == "routes":
            chosen = [0, (number + 2) % 5, (7 * number + 8) % 25]
            routes.append([{route: 1.0} for route in chosen])
            selection |= dict(zip(cell.routers, chosen, strict=False))
        else:
            shares = [torch.rand(5**j, dtype=torch.float64).softmax(0) for j in range(3)]
            routes.append([dict(enumerate(share.tolist())) for share in shares])
            selection |= {router: Blend(share) for router, share in zip(cell.routers, shares, strict=False)}
    if norm == "sabn":
        selection[model.cells[0].routers[0]] = routes[0][0] = None
    with maybe_route(model, selection):
        found = model(x, weights)
    expected = looped(model, x, weights, routes)
    torch.testing.assert_close(found, expected)
    trained = [weights, *(p for p in model.parameters() if p is not model.architecture)]
    of_found, of_expected = (
        torch.autograd.grad(z.square().sum(), trained, allow_unused=True) for z in (found, expected)
    )
    for parameter, a, b in zip(trained, of_found, of_expected, strict=True):
        zeros = torch.zeros_like(parameter)
        torch.testing.assert_close(zeros if a is None else a, zeros if b is None else b)


def derived(model: Supernet, cell: Cell) -> nn.Module:
    """The network of one cell with the weights of the supernet."""
    network = nas_bench_201(3, 2, cell=cell, channels=2, cells=1).double()
    own, wanted = model.state_dict(), network.state_dict()
    for key in wanted:
        parts = key.split(".")
        if "edges" in parts:
            parts.insert(parts.index("edges") + 2, OPERATIONS[cell.operations[int(parts[3])]])
        if ".".join(parts) in own:
            wanted[key] = own[".".join(parts)]
    network.load_state_dict(wanted)
    layers: Any = model.layers
    for at, layer in enumerate(layers):
        if layer not in model.cells:
            continue
        for edge, operation in enumerate(cell.operations):
            if OPERATIONS[operation].startswith("nor_conv"):
                _, _, norm = layer.edges[edge][OPERATIONS[operation]]
                plain: Any = network.get_submodule(f"layers.{at}.edges.{edge}.2")
                scale, shift = norm.weight, norm.bias
                if isinstance(norm, RoutedBatchNorm2d):
                    scale, shift = norm.effective_affine(norm.router.selection)
                plain.load_state_dict(
                    {
                        "weight": plain.weight if scale is None else scale,
                        "bias": plain.bias if shift is None else shift,
                    },
                    strict=False,
                )
    return network


@pytest.mark.parametrize("norm", NORMS)
def test_one_hot_weights_one_path_and_the_network_of_the_cell_are_the_same(norm: str) -> None:
    model, x = small(norm), images()
    chosen = {router: 3 if len(router) > 1 else 0 for router in routers_of(model)}
    hot = one_hot(torch.tensor(CELL.operations), len(OPERATIONS)).double()
    with maybe_route(model, chosen):
        single, again = model(x, CELL), model(x, CELL.operations)
        mixed, picked = model(x, hot), model(x, hot, CELL.operations)
        network = derived(model, CELL)
    assert torch.equal(single, again)
    for other in (mixed, picked, network(x)):
        torch.testing.assert_close(other, single)


def test_a_path_computes_only_its_operations_and_is_weighted() -> None:
    model, x, weights = small("sabn"), images(), mixture().requires_grad_()
    called = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and ".edges." in name:
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    path = (3, 0, 2, 1, 0, 4)
    z = model(x, weights, path)
    assert len(called) == 2 * len(model.cells)
    (g,) = torch.autograd.grad(z.square().sum(), weights)
    reached = torch.zeros(6, 5, dtype=torch.bool)
    for edge, operation in enumerate(path):
        reached[edge, operation] = operation != 0
    assert torch.equal(g != 0, reached)


def test_a_cell_of_no_operations_gives_logits() -> None:
    z = small("sabn")(images(), (0,) * 6)
    torch.testing.assert_close(z, z[:1].expand_as(z))


@pytest.mark.parametrize("how", ["routes", "blend"])
def test_the_gradient_of_the_architecture_is_that_of_differences(how: str) -> None:
    model, x, step = small("sabn"), images(), 1e-6

    def loss() -> Tensor:
        weights = model.architecture.softmax(1)
        pairs = torch.outer(weights[2], weights[1]).flatten()
        chosen: dict[Any, Any] = {}
        for cell in model.cells:
            chosen |= {cell.routers[1]: Blend(weights[0]), cell.routers[2]: Blend(pairs)}
        with route(model, chosen if how == "blend" else 0):
            total: Tensor = model(x, weights).square().sum()
            return total

    (found,) = torch.autograd.grad(loss(), model.architecture)
    for edge, operation in ((0, 0), (1, 3), (2, 2), (5, 4)):
        with torch.no_grad():
            entry = model.architecture[edge, operation]
            entry += step
            above = loss()
            entry -= 2 * step
            below = loss()
            entry += step
        slope = (above - below) / (2 * step)
        torch.testing.assert_close(found[edge, operation], slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("norm", "count"), [("bn", 1_691_986), ("bn-affine", 1_705_426), ("ccbn", 1_777_106), ("sabn", 1_790_546)]
)
def test_parameters_and_routes_are_those_of_the_official_supernet(norm: str, count: int) -> None:
    """The counts include the 30 parameters of the architecture."""
    model = supernet(100, norm=norm)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.architecture.numel() == 30
    routed = Counter(len(m.router) for m in model.modules() if isinstance(m, RoutedBatchNorm2d))
    assert routed == ({1: 90, 5: 60, 25: 30} if norm in ("ccbn", "sabn") else {})
    assert len(routers_of(model)) == (45 if norm in ("ccbn", "sabn") else 0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("statistics", ["shared", "per_route"])
def test_tracked_statistics(norm: str, statistics: Any) -> None:
    model, x = small(norm, statistics=statistics, track_running_stats=True), images()
    chosen = {router: len(router) // 2 for router in routers_of(model)}
    with maybe_route(model, chosen):
        model(x, mixture())
    norms: list[Any] = [
        layer for cell in model.cells for layer in cell.modules() if hasattr(layer, "running_mean")
    ]
    for layer in norms:
        moved = layer.running_mean.ne(0).any(-1)
        if moved.ndim == 0:  # with one route, statistics are shared
            assert moved
            assert statistics == "shared" or len(layer.router) == 1
        else:
            assert moved.nonzero().flatten().tolist() == [len(layer.router) // 2]
    model.eval()
    with maybe_route(model, chosen):
        alone, together = model(x[:1], mixture()), model(x, mixture())
    torch.testing.assert_close(alone, together[:1])


def test_copies_have_routers_of_their_own() -> None:
    model = small("sabn")
    other = copy.deepcopy(model)
    assert not set(routers_of(model)) & set(routers_of(other))
    assert all(set(cell.routers) <= set(routers_of(other)) for cell in other.cells)


@pytest.mark.slow
def test_a_compiled_supernet_is_the_same_and_one_graph() -> None:
    model, x, weights = small("sabn"), images(), mixture().requires_grad_()
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend, dynamic=False, fullgraph=True)
    for seed in range(3):  # other weights and blends are no other graph
        shares = torch.rand(25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(0)
        with route(model, {cell.routers[2]: Blend(shares) for cell in model.cells}):
            found, expected = compiled(x, weights * (seed + 1)), model(x, weights * (seed + 1))
        torch.testing.assert_close(found, expected)
    assert len(graphs) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "sbn"}, "did you mean"),
        ({"statistics": "both"}, "allowed: shared, per_route"),
        ({"statistics": "per_route"}, "set track_running_stats=True"),
        ({"reduction": "max"}, "reduction"),
        ({"cells": 0}, "cells"),
        ({"channels": 2.5}, "channels"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        supernet(10, **options)


def test_wrong_weights() -> None:
    model = small("bn")
    with pytest.raises(ModelError, match=r"a tensor \(6, 5\)"):
        model(images(), torch.ones(5, 6))
    with pytest.raises(ModelError, match="the operations of a cell"):
        model(images(), (1, 2, 3))
