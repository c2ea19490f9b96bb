"""Every layer, selection and mode on all kinds of views, with NaN around them, against dense float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustsabn import (
    Blend,
    RoutedGroupNorm,
    RoutedInstanceNorm1d,
    RoutedInstanceNorm2d,
    RoutedLayerNorm,
    Split,
    route,
)
from robustsabn.layers import RoutedBatchNorm, RoutedNorm
from robustsabn.routing import Selection
from tests.helpers.layer_reference import batch_norm64, running64
from tests.helpers.layers.views import VIEWS, poisoned

MIXED = [0, 1, 1, 0, 1, 0]
SELECTIONS: dict[str, tuple[Selection, list[int] | None]] = {
    "whole": ("adv", [1] * 6),
    "per sample": (torch.tensor(MIXED), MIXED),
    "one route per sample": (torch.ones(6, dtype=torch.long), [1] * 6),
    "split": (Split(clean=2, adv=4), [0, 0, 1, 1, 1, 1]),
    "split reversed": (Split(adv=3, clean=3), [1, 1, 1, 0, 0, 0]),
    "split, one part": (Split(clean=0, adv=6), [1] * 6),
    "blend": (Blend(clean=0.3, adv=0.7), None),
    "none": (None, None),
}
SHAPES = [(6, 4), (6, 4, 3), (6, 4, 3, 2), (6, 4, 1, 1), (6, 4, 2, 1, 3)]


def randomised(layer: RoutedNorm) -> RoutedNorm:
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    if isinstance(layer, RoutedBatchNorm) and layer.running_mean is not None:
        layer.running_mean.normal_()
    return layer


def run(layer: RoutedNorm, selection: Selection, x: Tensor, g: Tensor) -> list[Tensor]:
    """Output, gradients of input and parameters, buffers."""
    x = x.detach().requires_grad_()
    with route(layer, selection):
        y = layer(x)
    inputs = [x, *layer.parameters()]
    return [y.detach(), *_gradients(y, inputs, g), *layer.buffers()]


def _gradients(y: Tensor, inputs: list[Tensor], g: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, inputs, g, allow_unused=True, materialize_grads=True)


def one_by_one(layer: RoutedNorm, routes: list[int], x: Tensor, g: Tensor) -> list[Tensor]:
    """The same from the slow loop for batch norms, and from each route alone for the others."""
    x = x.detach().requires_grad_()
    inputs = [x, *layer.parameters()]
    if not isinstance(layer, RoutedBatchNorm):
        alone = []
        for name in (0, 1):
            with route(layer, name):
                alone.append(layer(x))
        y = torch.stack([alone[r][n] for n, r in enumerate(routes)])
        return [y.detach(), *_gradients(y, inputs, g)]
    batch = layer.training or layer.running_mean is None
    y = batch_norm64(layer, x.flatten(2) if x.ndim > 2 else x.unsqueeze(2), routes, batch).view_as(x)
    result = [y.detach(), *_gradients(y, inputs, g)]
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return result
    if not layer.training:
        return [*result, *layer.buffers()]
    count = layer.num_batches_tracked.clone()
    count[sorted(set(routes)) if count.ndim else ...] += 1
    return [*result, *running64(layer, x.detach(), routes, 0.1), count]


def check(layer: RoutedNorm, selection: str, x: Tensor, g: Tensor) -> None:
    chosen, routes = SELECTIONS[selection]
    twin = copy.deepcopy(layer).double()
    dense = (twin, x.double().contiguous(), g.double().contiguous())
    wanted = one_by_one(dense[0], routes, *dense[1:]) if routes else run(dense[0], chosen, *dense[1:])
    with poisoned():
        got = run(layer, chosen, x, g)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-3, atol=1e-3)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 99))
def test_batch_norm(data: Any, seed: int) -> None:
    torch.manual_seed(seed)
    shape = data.draw(st.sampled_from(SHAPES))
    statistics = data.draw(st.sampled_from(["shared", "per_route"]))
    affine = data.draw(st.sampled_from(["shared", "independent", "sandwich", "none"]))
    kinds = list(SELECTIONS) if affine != "independent" else list(SELECTIONS)[:-1]
    layer = randomised(
        RoutedBatchNorm(
            shape[1],
            statistics=statistics,
            affine=affine,
            bias=data.draw(st.booleans()),
            track_running_stats=data.draw(st.booleans()),
        )
    ).train(data.draw(st.booleans()))
    views = st.sampled_from(list(VIEWS))
    x, g = VIEWS[data.draw(views)](shape, torch.float32), VIEWS[data.draw(views)](shape, torch.float32)
    check(layer, data.draw(st.sampled_from(kinds)), x, g)


SAMPLE_NORMS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "layer": (lambda: RoutedLayerNorm(5), (6, 4, 5)),
    "layer over two dimensions": (lambda: RoutedLayerNorm((4, 5)), (6, 4, 5)),
    "layer, channels first": (lambda: RoutedLayerNorm(4, channels_first=True), (6, 4, 3, 2)),
    "group": (lambda: RoutedGroupNorm(2, 4), (6, 4, 3, 2)),
    "group, independent": (lambda: RoutedGroupNorm(2, 4, affine="independent", bias=False), (6, 4, 3)),
    "instance": (lambda: RoutedInstanceNorm2d(4), (6, 4, 3, 2)),
    "instance of signals": (lambda: RoutedInstanceNorm1d(4, bias=False), (6, 4, 3)),
}


@pytest.mark.parametrize("norm", SAMPLE_NORMS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 99))
def test_sample_norms(norm: str, data: Any, seed: int) -> None:
    torch.manual_seed(seed)
    build, shape = SAMPLE_NORMS[norm]
    layer = randomised(build())
    kinds = list(SELECTIONS) if layer.has_shared_affine else list(SELECTIONS)[:-1]
    views = st.sampled_from(list(VIEWS))
    x, g = VIEWS[data.draw(views)](shape, torch.float32), VIEWS[data.draw(views)](shape, torch.float32)
    check(layer, data.draw(st.sampled_from(kinds)), x, g)
