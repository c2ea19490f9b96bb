"""Activation checkpointing with routes is right or raises: never silently another route's gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustsabn import Blend, Router, Split, checkpoint_context, route
from robustsabn.errors import RouteError
from robustsabn.routing import Selection
from tests.helpers.layer_reference import make

Forward = Callable[[nn.Module, Tensor], Tensor]


class Block(nn.Module):
    """Two routed layers between convolutions."""

    def __init__(self, preset: str) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(3, 3, 3, dtype=torch.float64),
            nn.Conv2d(3, 3, 3, dtype=torch.float64),
        )
        self.norm1, self.norm2 = make(preset), make(preset)
        self.norm1.router = self.norm2.router = Router()

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, norm, ReLU, convolution, norm."""
        out: Tensor = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return out


def plain(model: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = model(x)
    return out


def checkpointed(**options: Any) -> Forward:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(model, x, **options)
        return out

    return forward


def with_helper(model: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = checkpoint(model, x, use_reentrant=False, context_fn=checkpoint_context(model))
    return out


def one_step(model: Block, forward: Forward, first: Selection, second: Selection) -> dict[str, Tensor]:
    """Two forwards under two selections, one backward outside of any route: gradients and buffers."""
    model = copy.deepcopy(model)
    x = torch.linspace(-1, 1, 6 * 3 * 36, dtype=torch.float64).reshape(6, 3, 6, 6).requires_grad_()
    with route(model, first):
        a = forward(model, x)
    with route(model, second):
        b = forward(model, 1.1 * x)
    torch.autograd.backward(a.square().sum() + b.pow(3).sum())
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"x": x.grad if x.grad is not None else x, **found, **dict(model.named_buffers())}


PAIRS: list[tuple[Selection, Selection]] = [
    ("clean", "adv"),
    ("adv", "clean"),
    (Split(clean=2, adv=4), torch.tensor([1, 0, 1, 1, 0, 0])),
    (Blend(clean=0.5, adv=0.5), None),
]


@pytest.mark.parametrize(
    "forward", [checkpointed(use_reentrant=False), with_helper], ids=["plain call", "helper"]
)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("preset", ["sabn", "saauxbn"])
def test_gradients_and_statistics_equal_those_without(
    preset: str, pair: tuple[Selection, Selection], forward: Forward
) -> None:
    model = Block(preset)
    expected, got = one_step(model, plain, *pair), one_step(model, forward, *pair)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)


def test_reentrant_raises() -> None:
    with pytest.raises(RouteError, match="checkpoint_context"):
        one_step(Block("saauxbn"), checkpointed(use_reentrant=True), "clean", "adv")


class Residual(Block):
    """A block whose last node lies as near to the layers before the block as to its own."""

    def __init__(self, preset: str) -> None:
        super().__init__(preset)
        self.conv1, self.conv2 = (nn.Conv2d(3, 3, 1, dtype=torch.float64) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Shortcut first, then ReLU."""
        return torch.relu(x + super().forward(x))


@pytest.mark.parametrize("options", [{"use_reentrant": True}, {"use_reentrant": False}], ids=str)
def test_layers_before_the_block_do_not_lend_it_another_route(options: dict[str, Any]) -> None:
    model = Residual("saauxbn").eval()
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    with route(model, "clean"):
        h = model.norm1(x)
    with route(model, "adv"):
        z: Tensor = checkpoint(model, h, **options)
        right = checkpoint(model, h, use_reentrant=False, context_fn=checkpoint_context(model))
        (expected,) = torch.autograd.grad(model(h).sum(), x, retain_graph=True)
    with pytest.raises(RouteError, match="checkpoint_context"):
        torch.autograd.backward(z.sum())
    (got,) = torch.autograd.grad(right.sum(), x)
    torch.testing.assert_close(got, expected)


def test_a_route_inside_the_checkpointed_function_is_kept() -> None:
    def inside(model: nn.Module, x: Tensor) -> Tensor:
        def block(t: Tensor) -> Tensor:
            with route(model, "adv"):
                out: Tensor = model(t)
            return out

        result: Tensor = checkpoint(block, x, use_reentrant=True)
        return result

    model = Block("saauxbn")
    expected, got = one_step(model, plain, "adv", "adv"), one_step(model, inside, "clean", "clean")
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, while it traces a non-leaf input
def test_helper_with_a_compiled_block() -> None:
    model = Block("saauxbn")

    def compiled(block: nn.Module, x: Tensor) -> Tensor:
        fast = torch.compile(block, backend="aot_eager", fullgraph=True)
        out: Tensor = checkpoint(fast, x, use_reentrant=False, context_fn=checkpoint_context(block))
        return out

    expected, got = one_step(model, plain, "clean", "adv"), one_step(model, compiled, "clean", "adv")
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, while it traces a non-leaf input
@pytest.mark.parametrize("fullgraph", [True, False])
def test_a_compiled_block_without_the_helper_raises(fullgraph: bool) -> None:
    torch._dynamo.reset()

    def compiled(block: nn.Module, x: Tensor) -> Tensor:
        fast = torch.compile(block, backend="aot_eager", fullgraph=fullgraph)
        out: Tensor = checkpoint(fast, x, use_reentrant=False)
        return out

    with pytest.raises(
        Exception, match="checkpoint_context"
    ):  # the compiler wraps what happens while it traces
        one_step(Block("saauxbn"), compiled, "clean", "adv")


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_route_inside_a_compiled_block_moves_statistics_once() -> None:
    class Inside(Block):
        def forward(self, x: Tensor) -> Tensor:
            with route(self, "adv"):
                return super().forward(x)

    def compiled(block: nn.Module, x: Tensor) -> Tensor:
        fast = torch.compile(block, backend="aot_eager")
        out: Tensor = checkpoint(fast, x, use_reentrant=False, context_fn=checkpoint_context(block))
        return out

    model = Inside("saauxbn")
    expected, got = one_step(model, plain, "clean", "clean"), one_step(model, compiled, "clean", "clean")
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)
