"""One block that gives each part of a model its own selection."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from robustsabn import Blend, Condition, Router, SaBN2d, Split, checkpoint_context, route
from robustsabn.errors import RouteError
from robustsabn.routing import SelectionByPart, current_selection, maybe_route, routers_of
from robustsabn.routing.router import modules_of

X = torch.randn(4, 3, 5, 5)
Y = torch.randn(4, 2)


class Cell(nn.Module):
    """Two layers behind one router of some routes, and one that takes a vector."""

    def __init__(self, routes: int) -> None:
        super().__init__()
        self.router, self.vectors = Router(routes), Router(condition=2)
        self.first = SaBN2d(3, routes=routes, router=self.router, init="paper")
        self.conv = nn.Conv2d(3, 3, 1)
        self.second = SaBN2d(3, routes=routes, router=self.router, init="paper")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.conv(self.first(x)))
        return out


class Net(nn.Module):
    """Three cells of 1, 3 and 5 routes, and a layer of vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells = nn.Sequential(Cell(1), Cell(3), Cell(5))
        self.last = SaBN2d(3, condition=2, init="paper")

    def forward(self, x: Tensor) -> Tensor:
        with route(self.last, Condition(Y)):
            out: Tensor = self.last(self.cells(x))
        return out


def cell(model: Net, i: int) -> Any:
    return model.cells[i]


def now(model: Net) -> list[Any]:
    routers: list[Any] = [*(cell(model, i).router for i in range(3)), model.last.router]
    return [router.selection for router in routers]


def test_parts_are_routers_submodules_and_names() -> None:
    model = Net()
    forms: list[dict[Any, Any]] = [
        {cell(model, 0).router: 0, cell(model, 1).router: 2, cell(model, 2).router: 4},
        {cell(model, 0): "0", cell(model, 1).second: 2, cell(model, 2): 4},
        {"cells.0": 0, "cells.1.first": "2", "cells.2": 4},
    ]
    for form in forms:
        with route(model, form):
            assert now(model) == [0, 2, 4, 0]
        assert now(model) == [0, 0, 0, 0]
    alone = X
    for part, selection in zip(model.cells, (0, 2, 4), strict=True):
        with route(part, selection):
            alone = part(alone)
    with route(model.cells, {"0": 0, "1": 2, "2": 4}):
        assert torch.equal(model.cells(X), alone)


def test_every_router_below_a_part_gets_the_selection_and_others_keep_theirs() -> None:
    model = Net()
    with route(model, {"cells.1": 1, "last": Condition(Y)}):
        with route(model, {model.cells: 0}):
            assert now(model)[:3] == [0, 0, 0]
            assert now(model)[3] is Y
        assert now(model)[:3] == [0, 1, 0]
        with route(model, {"cells.2": torch.tensor([4, 3, 2, 1])}), route(model, {"cells.0": None}):
            assert now(model)[:2] == [None, 1]
            assert now(model)[2].tolist() == [4, 3, 2, 1]
        with route(model, {model: None}):  # the model itself is a part, and None is for every kind
            assert now(model) == [None] * 4
        assert now(model)[3] is Y
    assert now(model) == [0] * 4


def test_each_part_takes_every_kind_of_selection() -> None:
    model, weights = Net(), torch.rand(5, requires_grad=True)
    mixed: SelectionByPart = {
        "cells.0": Split((0, 4)),
        "cells.1": torch.tensor([0, 1, 2, 0]),
        "cells.2": Blend(weights),
    }
    with route(model, mixed):
        y = model(X)
    assert torch.autograd.grad(y.square().sum(), weights)[0].abs().min() > 0


def test_one_router_in_two_parts_with_one_selection() -> None:
    model, routes = Net(), torch.tensor([0, 1, 2, 0])
    with route(model, {"cells.1.first": 2, "cells.1.second": "2", "cells.1": 2}):
        assert now(model)[1] == 2
    with route(model, {"cells.1.first": routes, "cells.1.second": routes}):
        assert now(model)[1] is routes


def test_parts_through_wrappers() -> None:
    model = Net()
    wrapped = nn.DataParallel(model)
    with route(wrapped, {model.cells[1]: 2, "module.cells.2": 3}):
        assert now(model)[:3] == [0, 2, 3]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (lambda m: {}, r"names no part; give \{part: selection\}"),
        (lambda m: {"cells.7": 0}, r"Net has no part 'cells.7' \(did you mean cells\.\d\?\); give one of"),
        (lambda m: {Net().cells: 0}, "Sequential is not a part of Net"),
        (lambda m: {copy.deepcopy(m).cells[0].router: 0}, r"Router\(0\) is not one of Net"),
        (lambda m: {m.cells[0].vectors: Condition(Y)}, r"Router\(condition=2\) is not one of Net"),
        (lambda m: {0: 1}, "a part of type int; allowed: a Router, a submodule of the model or"),
        (lambda m: {"cells.1": 1, "cells.1.second": 2},
            r"'cells.1' selects 1 and 'cells.1.second' selects 2 for the layer cells.1.second; give each"),
        (lambda m: {m.cells[1]: torch.tensor([0]), m: torch.tensor([0])},
            "cells.1 selects .* Net selects .* for"),
        (lambda m: {"cells.1.conv": 0}, "'cells.1.conv' has no routed layers"),
        (lambda m: {m.last: 0}, "the layers of last take vectors and have no routes"),
        (lambda m: {"cells": Condition(Y)}, "'cells' has no layers that take a vector"),
        (lambda m: {"cells.1": 3}, "^'cells.1': no route 3: this model has 0, 1, 2"),
        (lambda m: {"cells.1": "avd"}, "^'cells.1': no route 'avd'"),
        (lambda m: {"cells.1": {"first": 1}}, "a selection of type dict; allowed"),
        (lambda m: {m: 1}, "no route 1: this model has 0"),
    ],
)  # fmt: skip
def test_wrong_parts_are_refused_in_words_and_nothing_is_selected(
    parts: Callable[[Any], dict[Any, Any]], words: str
) -> None:
    model = Net()
    for call in (route, maybe_route):
        with pytest.raises(RouteError, match=words), call(model, parts(model)):
            pass
        assert now(model) == [0] * 4
    assert all(not router.thread for router in routers_of(model))


def test_errors_decorators_and_copies_restore() -> None:
    model = Net()
    parts = {"cells.1": 2, "cells.2": 1}
    with pytest.raises(KeyError), route(model, parts):
        raise KeyError

    @route(model, parts)
    def decorated() -> list[Any]:
        return now(copy.deepcopy(model)) + now(model)

    assert decorated() == [0, 0, 0, 0, 0, 2, 1, 0]
    assert now(model) == [0] * 4
    with maybe_route(nn.ReLU(), parts):  # a plain model
        pass


def test_only_the_routers_of_the_parts_belong_to_the_thread() -> None:
    model, found = Net(), list[object]()

    def work() -> None:
        for part in ("cells.1", "cells.2"):
            try:
                with route(model, {part: 1}):
                    found.append(part)
            except RouteError as error:
                found.append(str(error))

    with route(model, {"cells.1": 2}):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
        assert now(model)[:3] == [0, 2, 0]
    assert "one thread at a time" in str(found[0])
    assert found[1] == "cells.2"


@pytest.mark.parametrize("helped", [True, False])
def test_checkpointed_cells_use_their_own_selections_again(helped: bool) -> None:
    """The recomputation runs after the block; each router's records tell its own route."""
    plain = Net()
    again = copy.deepcopy(plain)
    parts: SelectionByPart = {"cells.1": torch.tensor([0, 1, 2, 1]), "cells.2": 3}
    grads = []
    for model, kept in ((plain, False), (again, True)):
        x = X.clone().requires_grad_()
        context: dict[str, Any] = {"context_fn": checkpoint_context(model)} if helped else {}
        with route(model, parts):
            y: Any = checkpoint(model.cells, x, use_reentrant=False, **context) if kept else model.cells(x)
        y.square().sum().backward()
        grads.append([x.grad, *(p.grad for p in model.cells.parameters())])
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("by_sample", [False, True])
def test_compiled_models_have_no_more_graphs_than_with_a_block_for_each_part(by_sample: bool) -> None:
    """Whole-batch routes are constants of a graph, one for each combination; tensors of routes share one."""
    model, counts = Net(), []
    for mapped in (False, True):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        compiled = torch.compile(model.cells, fullgraph=True, backend=counter)
        for pair in list(itertools.product(range(2), range(2))) * 2:
            i, j = (torch.full((4,), k) if by_sample else k for k in pair)
            first: dict[Any, Any] = {"cells.1": i, "cells.2": j} if mapped else {"cells.1": i}
            with route(model, first), route(model, {"cells.2": j}):
                torch.testing.assert_close(compiled(X), model.cells(X))
        counts.append(counter.frame_count)
    assert counts == ([1, 1] if by_sample else [4, 4])


def test_a_block_of_parts_inside_a_compiled_forward() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor, routes: Tensor) -> Tensor:
            with route(self.net, {"cells.1": routes, self.net.cells[2]: 3, self.net.cells[0].router: 0}):
                out: Tensor = self.net(x)
            return out

    model = Routed().eval()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for routes in (torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 0, 1])):
        torch.testing.assert_close(compiled(X, routes), model(X, routes))
    assert counter.frame_count == 1


def test_vectors_follow_the_device_of_their_layers_as_routes_do() -> None:
    layer = SaBN2d(3, condition=2).to("meta")
    vectors = torch.randn(4, 2, requires_grad=True)
    with route(layer, Condition(vectors)):
        assert current_selection(layer.router)[0].device.type == "meta"  # type: ignore[union-attr]
        assert layer(X.to("meta")).device.type == "meta"


def test_the_walk_finds_the_modules_in_torchs_order() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.Sequential(shared, nn.Conv2d(1, 1, 1)), nn.ModuleList([shared]))
    model.register_module("absent", None)
    assert list(modules_of(model)) == list(model.modules())
