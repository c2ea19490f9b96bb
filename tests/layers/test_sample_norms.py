"""Routed layer, group and instance normalisation, AdaIN and SaAdaIN against the formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustsabn import (
    RoutedGroupNorm,
    RoutedInstanceNorm1d,
    RoutedInstanceNorm2d,
    RoutedInstanceNorm3d,
    RoutedLayerNorm,
    SaAdaIN,
    Split,
    route,
)
from robustsabn.errors import InputError, RouteError
from robustsabn.layers import AdaIN, RoutedNorm
from robustsabn.layers.affine import Affine
from tests.helpers.layer_reference import affine64

ROUTES = [0, 1, 1, 0, 1, 0]
CASES: dict[str, tuple[Callable[..., RoutedNorm], tuple[object, ...], tuple[int, ...], tuple[int, ...]]] = {
    # layer, arguments, shape of one sample, shape in which its affine broadcasts
    "layer": (RoutedLayerNorm, (5,), (7, 5), (5,)),
    "layer 2-D": (RoutedLayerNorm, ((4, 5),), (3, 4, 5), (4, 5)),
    "layer vector": (RoutedLayerNorm, (5,), (5,), (5,)),
    "group": (RoutedGroupNorm, (2, 4), (4, 3, 3), (4, 1, 1)),
    "instance 1-D": (RoutedInstanceNorm1d, (4,), (4, 6), (4, 1)),
    "instance 2-D": (RoutedInstanceNorm2d, (4,), (4, 3, 3), (4, 1, 1)),
    "instance 3-D": (RoutedInstanceNorm3d, (4,), (4, 2, 3, 2), (4, 1, 1, 1)),
}


def normalised(layer: RoutedNorm, sample: Tensor) -> Tensor:
    """One sample by its own moments, biased variance."""
    if isinstance(layer, RoutedLayerNorm):
        dims = tuple(range(-len(layer.shape), 0))
        mean, var = sample.mean(dims, keepdim=True), sample.var(dims, correction=0, keepdim=True)
        return (sample - mean) / torch.sqrt(var + layer.eps)
    groups = layer.num_groups if isinstance(layer, RoutedGroupNorm) else len(sample)
    rows = sample.reshape(groups, -1)
    rows = (rows - rows.mean(1, keepdim=True)) / torch.sqrt(rows.var(1, correction=0, keepdim=True) + 1e-5)
    return rows.reshape(sample.shape)


@pytest.mark.parametrize("affine", ["shared", "independent", "sandwich", "none"])
@pytest.mark.parametrize("case", CASES)
def test_against_the_formula(case: str, affine: Affine) -> None:
    cls, arguments, shape, over = CASES[case]
    layer = cls(*arguments, affine=affine, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(6, *shape, dtype=torch.float64, requires_grad=True)
    for selection, routes in (
        (1, [1] * 6),
        (torch.tensor(ROUTES), ROUTES),
        (Split(clean=1, adv=5), [0, 1, 1, 1, 1, 1]),
    ):
        rows = []
        for sample, r in zip(x, routes, strict=True):
            y = normalised(layer, sample)
            for scale, shift in affine64(layer, r):
                y = y if scale is None else y * scale.reshape(over)
                y = y if shift is None else y + shift.reshape(over)
            rows.append(y)
        expected = torch.stack(rows)
        with route(layer, selection):
            got = layer(x)
        torch.testing.assert_close(got, expected)
        inputs, g = [x, *layer.parameters()], torch.randn_like(got)
        for a, b in zip(
            torch.autograd.grad(got, inputs, g, allow_unused=True, materialize_grads=True),
            torch.autograd.grad(expected, inputs, g, allow_unused=True, materialize_grads=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_channels_first_layer_norm() -> None:
    layer = RoutedLayerNorm(4, channels_first=True, affine="sandwich")
    plain = RoutedLayerNorm(4, affine="sandwich")
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(6, 4, 3, 3)
    for selection in (1, torch.tensor(ROUTES), Split(clean=2, adv=4)):
        with route(layer, selection), route(plain, selection):
            torch.testing.assert_close(layer(x), plain(x.movedim(1, -1)).movedim(-1, 1))


def test_autocast_and_no_bias() -> None:
    layer = RoutedGroupNorm(2, 4, affine="sandwich", bias=False)
    assert layer.bias is None
    assert layer.route_bias is None
    x = torch.randn(6, 4, 3, 3)
    with route(layer, torch.tensor(ROUTES)):
        exact = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(layer(x.bfloat16()).float(), exact, rtol=0.05, atol=0.05)


def test_adain_takes_the_moments_of_the_style() -> None:
    x, y = torch.randn(3, 4, 5, 5, dtype=torch.float64), 2 * torch.randn(3, 4, 7, 6, dtype=torch.float64) + 1
    layer = SaAdaIN(4).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    plain, sandwich = AdaIN()(x, y), layer(x, y)
    for n in range(3):
        for c in range(4):
            deviation = [
                torch.sqrt(((t[n, c] - t[n, c].mean()) ** 2).sum() / (t[n, c].numel() - 1) + 1e-5)
                for t in (x, y)
            ]
            xhat = (x[n, c] - x[n, c].mean()) / deviation[0]
            torch.testing.assert_close(plain[n, c], deviation[1] * xhat + y[n, c].mean())
            own = layer.weight[c] * xhat + layer.bias[c]
            torch.testing.assert_close(sandwich[n, c], deviation[1] * own + y[n, c].mean())
    torch.testing.assert_close(SaAdaIN(4).double()(x, y[:1]), AdaIN()(x, y[:1]))


def test_errors() -> None:
    with pytest.raises(InputError, match="equal C"):
        AdaIN()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4))
    with pytest.raises(InputError, match="two positions"):
        AdaIN()(torch.zeros(2, 3, 1, 1), torch.zeros(2, 3, 4, 4))
    with pytest.raises(RouteError, match="divide"):
        RoutedGroupNorm(3, 4)
    with pytest.raises(RouteError, match="dimensions"):
        RoutedInstanceNorm2d(3)(torch.zeros(2, 3, 4))
    with pytest.raises(RouteError, match="only the number of channels"):
        RoutedLayerNorm((3, 4), channels_first=True)
