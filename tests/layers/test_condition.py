"""Affines from a vector: maths, refusals, half precision, state."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn import (
    Blend,
    CCBN2d,
    CCIN2d,
    Condition,
    RoutedEmbedding,
    RoutedGroupNorm,
    RoutedLayerNorm,
    Router,
    SaAuxBN2d,
    SaBN2d,
    SaIN2d,
    Split,
    bake,
    route,
)
from robustsabn.errors import ConversionError, RouteError

LAYERS = (SaBN2d, CCBN2d, SaIN2d, CCIN2d)


def randomised(layer: Any) -> Any:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    if getattr(layer, "running_mean", None) is not None:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return layer


def conditioned64(layer: Any, x: Tensor, y: Tensor, training: bool) -> Tensor:
    """(1 + W_g y) (g_s xhat + b_s) + W_b y, one sample and one channel at a time; differentiable."""
    own, out = dict(layer.named_parameters()), []
    for n in range(len(x)):
        for c in range(x.shape[1]):
            if not isinstance(layer, nn.BatchNorm2d):
                values = x[n, c].flatten()
            else:
                values = torch.stack([x[m, c].flatten() for m in range(len(x))]).flatten()
            mean = values.sum() / values.numel()
            var = ((values - mean) ** 2).sum() / values.numel()
            if isinstance(layer, nn.BatchNorm2d) and not training:
                assert layer.running_mean is not None
                assert layer.running_var is not None
                mean, var = layer.running_mean[c], layer.running_var[c]
            value = (x[n, c] - mean) / torch.sqrt(var + layer.eps)
            if "weight" in own:
                value = own["weight"][c] * value + own["bias"][c]
            gain, bias = own["condition_gain.weight"], own["condition_bias.weight"]
            value = (1 + sum(gain[c, d] * y[n, d] for d in range(y.shape[1]))) * value
            out.append(value + sum(bias[c, d] * y[n, d] for d in range(y.shape[1])))
    return torch.stack(out).view_as(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_forward_and_gradients_are_those_of_the_loop(kind: Callable[..., Any], training: bool) -> None:
    layer = randomised(kind(3, condition=2, dtype=torch.float64)).train(training)
    x = torch.randn(4, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    inputs = [x, y, *layer.parameters()]
    expected = conditioned64(layer, x, y, training)
    with route(layer, Condition(y)):
        found = layer(x)
    torch.testing.assert_close(found, expected)
    g = torch.randn_like(x)
    for one, other in zip(
        torch.autograd.grad(found, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_class_index_is_the_case_of_one_hot_vectors(kind: Callable[..., Any]) -> None:
    table, maps = randomised(kind(5, routes=4)), kind(5, condition=4)
    own = dict(maps.named_parameters())
    with torch.no_grad():
        own["condition_gain.weight"].copy_(table.route_weight.T - 1)
        own["condition_bias.weight"].copy_(table.route_bias.T)
        for name in {"weight", "bias"} & set(own):
            own[name].copy_(dict(table.named_parameters())[name])
    x, classes = torch.randn(7, 5, 3, 3), torch.arange(7) % 4
    with route(table, classes):
        expected = table(x)
    with route(maps, Condition(F.one_hot(classes, 4).float())):
        torch.testing.assert_close(maps(x), expected)
    assert torch.equal(maps(x) if False else maps.condition_gain.weight + 1, (table.route_weight.T - 1) + 1)


def test_layer_and_group_norm_take_vectors() -> None:
    x, y = torch.randn(3, 5, 4), torch.randn(3, 2)
    for layer, shape in (
        (RoutedLayerNorm((5, 4), condition=2), (5, 4)),
        (RoutedLayerNorm(4, condition=2), (1, 4)),
        (RoutedGroupNorm(1, 5, condition=2), (5, 1)),
    ):
        randomised(layer)
        with torch.no_grad(), route(layer, Condition(y)):
            found = layer(x)
        own = {name: p.detach() for name, p in layer.named_parameters()}
        xhat = F.layer_norm(x, x.shape[-len(layer.shape) :] if layer.shape != (5,) else (5, 4), eps=layer.eps)
        g = (1 + y @ own["condition_gain.weight"].T).view(3, *shape)
        b = (y @ own["condition_bias.weight"].T).view(3, *shape)
        view = own["weight"].view(1, *shape), own["bias"].view(1, *shape)
        torch.testing.assert_close(found, g * (view[0] * xhat + view[1]) + b)


def test_the_embedding_gives_rows_of_the_selection() -> None:
    embedding = RoutedEmbedding(("a", "b", "c"), 2)
    table = embedding.weight
    rows: dict[Any, Tensor] = {
        "b": table[1].expand(4, 2),
        2: table[2].expand(4, 2),
        torch.tensor([2, 0, 0, 1]): table[[2, 0, 0, 1]],
        Split(c=1, a=3): table[[2, 0, 0, 0]],
        Blend(a=0.25, c=0.75): (0.25 * table[0] + 0.75 * table[2]).expand(4, 2),
        None: torch.zeros(4, 2),
    }
    for selection, expected in rows.items():
        with route(embedding, selection):
            torch.testing.assert_close(embedding(4), expected)
            whole = isinstance(selection, (str, int, Blend)) or selection is None
            torch.testing.assert_close(embedding(), expected[:1] if whole else expected)
            if not whole:
                with pytest.raises(RouteError, match="4 samples for a batch of 5"):
                    embedding(5)
    assert torch.equal(embedding(1), table[:1])
    assert set(embedding.state_dict()) == {"weight"}


@pytest.mark.parametrize("kind", LAYERS)
def test_half_precision_keeps_the_maps_in_float32(kind: Callable[..., Any]) -> None:
    layer = randomised(kind(3, condition=8)).eval()
    x, y = torch.randn(4, 3, 5, 5).bfloat16(), torch.randn(4, 8).bfloat16()
    with route(layer, Condition(y)), torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    with route(layer, Condition(y.float())):
        expected = layer(x.float())
    torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=2**-7)


def test_none_is_the_shared_affine_and_can_be_baked() -> None:
    layer = randomised(SaBN2d(3, condition=2)).eval()
    x, model = torch.randn(2, 3, 4, 4), nn.Sequential(layer)
    with route(model, None):
        shared = model(x)
    with route(model, Condition(torch.zeros(2, 2))):
        torch.testing.assert_close(model(x), shared)
    plain = bake(model, None)
    assert torch.equal(plain(x), shared)
    assert set(plain.state_dict()) == {f"0.{key}" for key in nn.BatchNorm2d(3).state_dict()}
    with pytest.raises(ConversionError, match="a plain network has only one"):
        bake(model, Condition(torch.zeros(2, 2)))


def test_state_copies_devices_and_the_start() -> None:
    layer = SaBN2d(3, condition=2)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "weight": (3,),
        "bias": (3,),
        "condition_gain.weight": (3, 2),
        "condition_bias.weight": (3, 2),
    }
    x, y = torch.randn(4, 3, 5, 5), torch.randn(4, 2)
    with route(layer, Condition(y)):
        torch.testing.assert_close(layer(x), nn.BatchNorm2d(3)(x))
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            with pytest.raises(RouteError, match="none are given"):
                twin(x)
    torch.manual_seed(0)
    drawn = CCBN2d(64, condition=64, init="paper").condition_gain
    assert drawn is not None
    assert drawn.weight.std().item() == pytest.approx(0.02, rel=0.1)
    meta = SaBN2d(3, condition=2, device="meta")
    assert all(t.is_meta for t in meta.state_dict().values())
    with route(meta, Condition(y.to("meta"))):
        assert meta(x.to("meta")).is_meta


Y = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Condition([1.0]), r"give a float tensor \(N, D\)"),  # type: ignore[arg-type]
        (lambda: Condition(Y[0]), r"shape \(3,\); give a dense float tensor"),
        (lambda: Condition(Y.long()), "dtype torch.int64"),
        (lambda: route(SaBN2d(2, condition=4), Condition(Y)).__enter__(), "length 3 .* condition=4"),
        (lambda: route(SaBN2d(2, condition=3), Condition(Y.double())).__enter__(), "torch.float64 for"),
        (lambda: route(SaBN2d(2, condition=3), torch.zeros(2, dtype=torch.long)).__enter__(),
            "take vectors and have no routes"),
        (lambda: route(SaBN2d(2, condition=3), "adv").__enter__(), "take vectors and have no routes"),
        (lambda: route(SaBN2d(2), Condition(Y)).__enter__(), "build them with condition=3"),
        (lambda: route(nn.Conv2d(1, 1, 1), Condition(Y)).__enter__(), "build them with condition=3"),
        (lambda: route(CCBN2d(2, condition=3), None).__enter__(), "has none"),
        (lambda: SaBN2d(2, routes=4, condition=3), "give only one"),
        (lambda: SaBN2d(2, condition=0), "whole number of at least 1"),
        (lambda: SaBN2d(2, condition=3, router=Router()), "give all layers of a router the same condition"),
        (lambda: SaBN2d(2, router=Router(condition=3)), "give all layers of a router the same condition"),
        (lambda: SaAuxBN2d(2, condition=3), "give statistics='shared'"),
        (lambda: RoutedEmbedding(3, 2, router=Router(condition=3)), "Router of routes"),
        (lambda: SaBN2d(2, condition=3)(torch.zeros(2, 2, 4, 4)), r"route\(model, Condition\(y\)\)"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_in_words(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(RouteError, match=words):
        call()


def test_another_number_of_vectors_than_samples_is_refused() -> None:
    for layer in (SaBN2d(2, condition=3), SaIN2d(2, condition=3), RoutedGroupNorm(1, 2, condition=3)):
        with route(layer, Condition(Y)), pytest.raises(RouteError, match="2 vectors for a batch of 5"):
            layer(torch.zeros(5, 2, 4, 4))
        with pytest.raises(RouteError, match="different routes"), route(layer, Condition(Y)):
            _ = torch.zeros(2) + layer.weight
