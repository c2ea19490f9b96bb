"""Vectors for blocks inside the route of the class, as in BigGAN: nested, compiled, checkpointed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from robustsabn import (
    Blend,
    CCBN2d,
    Condition,
    RoutedEmbedding,
    Router,
    SaBN2d,
    Split,
    checkpoint_context,
    route,
    routes_of,
)
from robustsabn.errors import RouteError


class Block(nn.Module):
    """Two layers that take the vector of their block."""

    def __init__(self, d: int) -> None:
        super().__init__()
        router = Router(condition=d)
        self.first = SaBN2d(4, condition=d, router=router, init="paper")
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.second = CCBN2d(4, condition=d, router=router, init="paper")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.conv(self.first(x).relu()))
        return out


class Generator(nn.Module):
    """The class as a vector, beside a part of the latent of its own for each block, as in BigGAN."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        self.embedding = RoutedEmbedding(10, 4)
        self.blocks = nn.ModuleList(Block(6) for _ in range(2))
        self.last = SaBN2d(4, router=self.embedding.router, routes=10)
        self.checkpointed = checkpointed

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        embedded = self.embedding(len(z))
        for block, part in zip(self.blocks, z.chunk(2, 1), strict=True):
            with route(block, Condition(torch.cat([embedded, part], 1))):
                x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        out: Tensor = self.last(x)
        return out


def run(model: nn.Module, call: Callable[..., Tensor], selection: Any) -> tuple[Tensor, list[Tensor]]:
    g = torch.Generator().manual_seed(0)
    x, z = torch.randn(6, 4, 5, 5, generator=g), torch.randn(6, 4, generator=g, requires_grad=True)
    with route(model, selection):
        y = call(x, z)
    wanted = [z, *model.parameters()]
    return y, list(torch.autograd.grad((y * x.roll(1, 0)).sum(), wanted, allow_unused=True))


SELECTIONS = (torch.arange(6), 3, "4", Split((0, 2), (1, 4)), Blend(torch.full((10,), 0.1)))


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: type(s).__name__)
def test_blocks_take_their_own_vectors_inside_the_route_of_the_class(selection: Any) -> None:
    model = Generator()
    assert routes_of(model) == tuple(map(str, range(10)))
    y, grads = run(model, model, selection)
    names = ["z", *(name for name, _ in model.named_parameters())]
    assert [name for name, g in zip(names, grads, strict=True) if g is None or not g.abs().max() > 0] == []
    for block in model.blocks:
        with pytest.raises(RouteError, match="none are given"):
            block(torch.zeros(2, 4, 3, 3))
    assert y.shape == (6, 4, 5, 5)


def test_blocks_compile_without_breaks_and_once_for_all_vectors() -> None:
    model = Generator()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for shift in (0, 3):
        expected = run(model, model, (torch.arange(6) + shift) % 10)
        found = run(model, compiled, (torch.arange(6) + shift) % 10)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
        for one, other in zip(found[1], expected[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert counter.frame_count == 1


def test_checkpointed_blocks_give_the_same_gradients_and_move_statistics_once() -> None:
    plain = Generator()
    again = copy.deepcopy(plain)
    again.checkpointed = True
    expected, found = run(plain, plain, SELECTIONS[0]), run(again, again, SELECTIONS[0])
    assert torch.equal(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(again.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_block_checkpointed_with_the_helper() -> None:
    block, x, y = Block(3), torch.randn(4, 4, 5, 5), torch.randn(4, 3, requires_grad=True)
    twin = copy.deepcopy(block)
    with route(block, Condition(y)):
        block(x).square().sum().backward()
    expected, y.grad = y.grad, None
    with route(twin, Condition(y)):
        out = checkpoint(twin, x, use_reentrant=False, context_fn=checkpoint_context(twin))
    out.square().sum().backward()
    assert expected is not None
    assert y.grad is not None
    assert torch.equal(y.grad, expected)


@pytest.mark.parametrize("parametrised", [True, False])
def test_spectral_norm_on_the_maps_and_the_embedding(parametrised: bool) -> None:
    model = Generator()
    for module in list(model.modules()):
        if isinstance(module, (nn.Linear, RoutedEmbedding)):
            nn.init.orthogonal_(module.weight)  # BigGAN's start; zeros have no norm to divide by
            if parametrised:
                nn.utils.parametrizations.spectral_norm(module, n_power_iterations=30)
            else:
                nn.utils.spectral_norm(module, n_power_iterations=30)
    run(model, model, SELECTIONS[0])
    block: Any = model.blocks[0]
    for weight in (model.embedding.weight, block.first.condition_gain.weight):
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-3)
    y, grads = run(model, model, SELECTIONS[0])
    assert y.isfinite().all()
    assert all(g is not None and g.isfinite().all() for g in grads)
