"""torch.compile(fullgraph=True) under every selection: equal results, and no more graphs than promised."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from robustsabn import Blend, Router, Split, route
from robustsabn.layers import PRESETS, RoutedGroupNorm, RoutedLayerNorm
from robustsabn.routing import Selection
from tests.helpers.layer_reference import make

SELECTIONS: list[tuple[Selection, int]] = [  # selection, graphs so far
    (0, 1),
    ("adv", 2),
    (0, 2),
    (1, 2),
    (torch.tensor([0, 1, 1, 0, 1, 0]), 3),
    (torch.tensor([1, 1, 1, 0, 1, 0]), 3),
    (Split(clean=2, adv=4), 4),
    (Split(clean=2, adv=4), 4),
    (Blend(clean=0.2, adv=0.8), 5),
    (Blend(clean=0.7, adv=0.3), 5),
    (None, 6),
]


def run(model: nn.Module, call: nn.Module, selection: Selection, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    with route(model, selection):
        y = call(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad]


CASES = [("saauxbn", True, "aot_eager"), ("sabn", True, "aot_eager"), ("saauxbn", False, "eager")]


@pytest.mark.parametrize(
    ("preset", "training", "backend"),
    [*CASES, *((preset, True, "eager") for preset in PRESETS if (preset, True, "aot_eager") not in CASES)],
)
def test_batch_norm(preset: str, training: bool, backend: str) -> None:
    torch._dynamo.reset()
    first, second = make(preset), make(preset)
    second.router = first.router
    model = nn.Sequential(nn.Conv2d(3, 3, 3, dtype=torch.float64), first, nn.ReLU(), second).train(training)
    eager = copy.deepcopy(model)
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    assert isinstance(compiled, nn.Module)
    for selection, graphs in SELECTIONS:
        if selection is None and not first.has_shared_affine:
            continue
        x = torch.randn(6, 3, 6, 6, dtype=torch.float64)
        for a, b in zip(run(model, compiled, selection, x), run(eager, eager, selection, x), strict=True):
            torch.testing.assert_close(a, b)
        assert counter.frame_count == graphs, selection
    for (name, a), b in zip(model.state_dict().items(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_sample_norms() -> None:
    torch._dynamo.reset()
    router = Router()
    model = nn.Sequential(RoutedGroupNorm(2, 4, router=router), RoutedLayerNorm((4, 5, 5), router=router))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert isinstance(compiled, nn.Module)
    for selection, _ in SELECTIONS:
        x = torch.randn(6, 4, 5, 5)
        for a, b in zip(run(model, compiled, selection, x), run(model, model, selection, x), strict=True):
            torch.testing.assert_close(a, b)


def test_a_route_inside_the_compiled_function() -> None:
    torch._dynamo.reset()
    model = make("saauxbn").eval()

    def both(x: Tensor) -> Tensor:
        with route(model, "adv"):
            adv: Tensor = model(x)
        clean: Tensor = model(x)
        return adv - clean

    x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(both, backend="aot_eager", fullgraph=True)(x), both(x))
    assert model.router.selection == 0


def test_no_recompilation_in_an_ascent_loop() -> None:
    torch._dynamo.reset()
    model = make("saauxbn").eval()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    with route(model, "adv"):
        for _ in range(10):
            x = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(compiled(x).square().sum(), x)
            x = x + 0.1 * g.sign()
    assert counter.frame_count == 1


@pytest.mark.parametrize("routes", [[0, 2], [0, -1]], ids=str)
def test_routes_out_of_range_are_refused_in_compiled_code(routes: list[int]) -> None:
    """A negative index would otherwise count from the end."""
    torch._dynamo.reset()
    layer = make("saauxbn")

    @torch.compile(backend="eager")
    def compiled(x: Tensor, chosen: Tensor) -> Tensor:
        with route(layer, chosen):
            return layer(x)  # type: ignore[no-any-return]

    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    compiled(x, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="per-sample routes must lie in 0 to 1"):
        compiled(x, torch.tensor(routes))
