"""Routes in half precision: every selection accepts torch's dtypes and rounds once, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from robustsabn import (
    Blend,
    RoutedGroupNorm,
    RoutedInstanceNorm2d,
    RoutedLayerNorm,
    Split,
    bake,
    convert,
    route,
)
from robustsabn.errors import RouteError
from robustsabn.layers import PRESETS, RoutedBatchNorm, RoutedBatchNorm2d, RoutedNorm
from robustsabn.routing import Selection
from tests.helpers.layer_reference import make

HALVES = [torch.bfloat16, torch.float16]
LAYERS: dict[str, Callable[[], RoutedNorm]] = {
    **{name: partial(make, name, torch.float32, channels=4) for name in PRESETS},
    "no affine": lambda: RoutedBatchNorm2d(4, statistics="per_route", affine="none"),
    "no bias": lambda: RoutedBatchNorm2d(4, statistics="per_route", bias=False),
    "layer": lambda: RoutedLayerNorm((4, 3, 3)),
    "layer, channels first": lambda: RoutedLayerNorm(4, channels_first=True),
    "group": lambda: RoutedGroupNorm(2, 4),
    "instance": lambda: RoutedInstanceNorm2d(4),
}
SELECTIONS: dict[str, Selection] = {
    "whole": 1,
    "per sample": torch.tensor([0, 1, 1, 0, 1, 0]),
    "split": Split(clean=3, adv=3),
    "blend": Blend(clean=0.3, adv=0.7),
}


def run(layer: RoutedNorm, selection: Selection, x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Output, gradients of input and parameters, running statistics, of a copy."""
    layer, x = copy.deepcopy(layer), x.detach().requires_grad_()
    with route(layer, selection):
        y = layer(x)
    grads = torch.autograd.grad(
        y, [x, *layer.parameters()], g, allow_unused=True, materialize_grads=True, retain_graph=True
    )
    return (y.detach(), *grads, *(b for b in layer.buffers() if b.is_floating_point()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", HALVES)
def test_parameters_in_float32_are_rounded_once(dtype: torch.dtype, name: str, training: bool) -> None:
    """As under autocast: output and gradient are exact up to one rounding to dtype, also far from zero."""
    layer = LAYERS[name]().train(training)
    if isinstance(layer, RoutedBatchNorm) and layer.running_mean is not None:
        layer.running_mean.add_(20)
    x, g = (torch.randn(6, 4, 3, 3) + 20).to(dtype), torch.randn(6, 4, 3, 3).to(dtype)
    one_rounding = torch.finfo(dtype).eps / 2
    for selection in ("whole", "per sample", "split"):
        wanted = run(copy.deepcopy(layer).double(), SELECTIONS[selection], x.double(), g.double())
        for autocast in (False, True):
            with torch.autocast("cpu", dtype, enabled=autocast):
                got = run(layer, SELECTIONS[selection], x, g)
            assert got[0].dtype == got[1].dtype == dtype
            for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
                if i > 1:
                    assert a.dtype == torch.float32
                    if selection == "whole" and not isinstance(layer, RoutedBatchNorm):
                        continue  # torch's layer norm sums the gradients of its weights in half precision
                torch.testing.assert_close(
                    a.double(), b, rtol=1.01 * one_rounding if i < 2 else 1e-5, atol=2e-4
                )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "name", [name for name in LAYERS if name != "bn"]
)  # whose routes are one, and torch's own
@pytest.mark.parametrize("dtype", HALVES)
def test_models_in_half_precision(dtype: torch.dtype, name: str, training: bool) -> None:
    """Per sample, affine, sums and output are rounded, and nothing in between."""
    layer = LAYERS[name]().train(training)
    batch_norm = isinstance(layer, RoutedBatchNorm)
    if isinstance(layer, RoutedBatchNorm) and layer.running_mean is not None:
        layer.running_mean.add_(20)
    layer = layer.to(dtype)
    x, g = (torch.randn(6, 4, 3, 3) + 20).to(dtype), torch.randn(6, 4, 3, 3).to(dtype)
    for selection in ("per sample", "blend") if batch_norm and not training else ("per sample",):
        got = run(layer, SELECTIONS[selection], x, g)
        wanted = run(copy.deepcopy(layer).double(), SELECTIONS[selection], x.double(), g.double())
        for a, b in list(zip(got, wanted, strict=True))[: 1 if selection == "blend" else None]:
            assert a.dtype == dtype
            bound = 4 * torch.finfo(dtype).eps * float(b.abs().max().clamp(min=1))
            torch.testing.assert_close(a.double(), b, rtol=0, atol=bound)


@pytest.mark.parametrize("own", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", ["sabn", "saauxbn", "no affine", "layer", "group", "instance"])
def test_what_torch_refuses_every_selection_refuses(name: str, selection: str, own: torch.dtype) -> None:
    """float32 images in a model of another dtype."""
    layer = LAYERS[name]().to(own)
    for training in (True, False):
        with route(layer.train(training), SELECTIONS[selection]), pytest.raises((RuntimeError, RouteError)):
            layer(torch.randn(6, 4, 3, 3))


def test_per_sample_routes_keep_the_input_alone_for_the_backward() -> None:
    for name in PRESETS:
        layer, x = LAYERS[name](), torch.randn(6, 4, 8, 8).bfloat16().requires_grad_()
        kept: dict[int, int] = {}

        def pack(t: Tensor, kept: dict[int, int] = kept) -> Tensor:
            if t.numel() >= 6 * 4 * 64:
                kept[t.data_ptr()] = t.nbytes
            return t

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
            route(layer, SELECTIONS["per sample"]),
        ):
            y = layer(x)
        assert list(kept) == [x.data_ptr()], name
        assert sum(kept.values()) == x.nbytes
        del y


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("norm", PRESETS)
def test_default_dtype_of_float64(norm: str, selection: str) -> None:
    """Models made before and after the default changed, on images of either dtype's own model."""
    torch.set_default_dtype(torch.float64)
    try:
        for dtype in (torch.float32, torch.float64):
            network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)).to(dtype)
            model = convert(network, norm).train()
            x = torch.rand(6, 3, 5, 5, dtype=dtype)
            with route(model, SELECTIONS[selection]):
                y = model(x)
                y.square().mean().backward()
                z = model.eval()(x)
            assert y.dtype == z.dtype == dtype
            assert all(p.dtype == dtype for p in model.parameters())
            if selection in ("whole", "blend"):
                torch.testing.assert_close(bake(model, SELECTIONS[selection])(x), z)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_blend_is_not_rounded_to_the_default_dtype() -> None:
    layer = make("saauxbn").eval()
    x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    with route(layer, Blend(clean=0.3, adv=0.7)):
        named = layer(x)
    with route(layer, Blend(torch.tensor([0.3, 0.7], dtype=torch.float64))):
        torch.testing.assert_close(named, layer(x), rtol=1e-12, atol=1e-12)
