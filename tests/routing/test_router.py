"""The router, the selections and the context manager."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from robustsabn import Blend, RoutedBatchNorm2d, Router, SaAuxBN2d, SaBN2d, Split, route, routes_of
from robustsabn.errors import RouteError
from robustsabn.layers import PRESETS
from robustsabn.routing import maybe_route, routers_of
from tests.helpers.layer_reference import make


def net(preset: str = "saauxbn") -> nn.Sequential:
    """Two routed layers behind one router, with distinct routes."""
    first, router = make(preset), Router()
    second = make(preset)
    first.router = second.router = router
    return nn.Sequential(first, nn.ReLU(), second)


X = torch.randn(6, 3, 4, 4, dtype=torch.float64)


def test_routes_differ_nest_and_are_restored() -> None:
    model = net().eval()
    clean, outputs = model(X), []
    with route(model, "adv"):
        outputs.append(model(X))
        with route(model, "clean"):
            assert torch.equal(model(X), clean)
        assert torch.equal(model(X), outputs[0])
        with pytest.raises(KeyError), route(model, 0):
            raise KeyError
        assert torch.equal(model(X), outputs[0])
    assert not torch.allclose(outputs[0], clean)
    assert torch.equal(model(X), clean)


@pytest.mark.parametrize("preset", PRESETS)
def test_mixed_batches_equal_each_route_alone(preset: str) -> None:
    model = net(preset).eval()
    alone = []
    for name in ("clean", "adv"):
        with route(model, name):
            alone.append(model(X))
    with route(model, torch.tensor([0, 1] * 3)):
        mixed = model(X)
    torch.testing.assert_close(mixed[::2], alone[0][::2])
    torch.testing.assert_close(mixed[1::2], alone[1][1::2])
    with route(model, Split(clean=2, adv=4)):
        split = model(X)
    torch.testing.assert_close(split, torch.cat([alone[0][:2], alone[1][2:]]))


@pytest.mark.parametrize("preset", PRESETS)
def test_blend_is_the_mix_of_effective_affines_and_statistics(preset: str) -> None:
    layer = make(preset).eval()
    with route(layer, 1):
        adv = layer(X)
    with route(layer, Blend(adv=1.0)):
        torch.testing.assert_close(layer(X), adv)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mix = torch.tensor([0.3, 0.7], dtype=torch.float64)
    mean, var = layer.running_mean, layer.running_var
    if layer.statistics == "per_route":
        mean, var = mix @ mean, mix @ var
    scale, shift = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for r, w in enumerate(mix):
        g, b = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        if layer.has_shared_affine:
            g, b = (dict(layer.named_parameters())[name] for name in ("weight", "bias"))
        if layer.route_weight is not None and layer.route_bias is not None:
            g, b = layer.route_weight[r] * g, layer.route_weight[r] * b + layer.route_bias[r]
        scale, shift = scale + w * g, shift + w * b
    expected = (X - mean.view(1, 3, 1, 1)) / torch.sqrt(var.view(1, 3, 1, 1) + layer.eps)
    expected = expected * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
    with route(layer, Blend(clean=0.3, adv=0.7)):
        torch.testing.assert_close(layer(X), expected, rtol=1e-6, atol=1e-6)
    weights = mix.clone().requires_grad_()
    with route(layer, Blend(weights)):
        layer(X).sum().backward()
    assert preset == "bn" or weights.grad is not None


def test_none_is_the_shared_affine_with_pooled_statistics() -> None:
    layer = make("saauxbn").eval()
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean = layer.running_mean.mean(0)
    var = (layer.running_var + layer.running_mean**2).mean(0) - mean**2
    view = (1, 3, 1, 1)
    expected = (X - mean.view(view)) / torch.sqrt(var.view(view) + layer.eps)
    weight, bias = (dict(layer.named_parameters())[name] for name in ("weight", "bias"))
    expected = expected * weight.view(view) + bias.view(view)
    with route(layer, None):
        torch.testing.assert_close(layer(X), expected)
    with pytest.raises(RouteError, match="shared affine"), route(make("auxbn"), None):
        pass


@pytest.mark.parametrize("selection", [None, Blend(clean=0.25, adv=0.75)])
def test_training_with_blend_and_none(selection: Blend | None) -> None:
    """Batch statistics normalise; a Blend moves each route by its share of the momentum, None moves none."""
    layer = make("saauxbn")
    assert layer.running_mean is not None
    assert layer.num_batches_tracked is not None
    before = layer.running_mean.clone()
    with route(layer, selection):
        layer(X)
    share = torch.tensor([[0.25], [0.75]], dtype=torch.float64) if selection else torch.zeros(2, 1)
    torch.testing.assert_close(
        layer.running_mean, before + 0.1 * share * (X.mean((0, 2, 3)) - before), rtol=1e-6, atol=1e-7
    )
    assert layer.num_batches_tracked.tolist() == ([1, 1] if selection else [0, 0])


def test_deepcopy_and_pickle_are_independent() -> None:
    model = net().eval()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[0].router is twin[2].router is not model[0].router
        with route(model, "adv"):
            assert not torch.allclose(model(X), twin(X))
        assert torch.equal(model(X), twin(X))


def test_a_copy_made_inside_a_route_block_takes_the_first_route() -> None:
    model = net().eval()
    with route(model, "adv"):
        twins = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        adv = model(X)
    for twin in twins:
        assert torch.equal(twin(X), model(X))
        assert not torch.allclose(twin(X), adv)


@pytest.mark.parametrize("training", [True, False])
def test_blend_under_autocast_keeps_its_parameters_in_float32(training: bool) -> None:
    model = net().float().train(training)
    x = X.bfloat16()
    twin = copy.deepcopy(model)
    with route(model, Blend(clean=0.3, adv=0.7)):
        expected = model(x)
    with route(twin, Blend(clean=0.3, adv=0.7)), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(twin(x), expected)


def test_two_models_at_once() -> None:
    a, b = net().eval(), net().eval()
    with route(a, "adv"):
        expected_a = a(X)
        with route(b, "adv"):
            expected_b = b(X)
        assert torch.equal(a(X), expected_a)
    assert not torch.allclose(b(X), expected_b)
    pair = nn.ModuleList([a, b])
    with route(pair, "adv"):
        assert torch.equal(a(X), expected_a)
        assert torch.equal(b(X), expected_b)


def test_route_is_independent_of_train_and_eval() -> None:
    model = net()
    with route(model, "adv"):
        model.eval()
        adv = model(X)
        model.train().eval()
        assert torch.equal(model(X), adv)


def test_unnamed_routes_and_plain_models() -> None:
    layer = SaBN2d(3, routes=12)
    assert routes_of(layer) == tuple(str(i) for i in range(12))
    with route(layer, Split((3, 1), (11, 5))):
        layer(X.float())
    plain = nn.Linear(2, 2)
    assert routes_of(plain) == ()
    with maybe_route(plain, "adv"):
        plain(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (lambda: "avd", "did you mean adv"),
        (lambda: 2, "0 to 1"),
        (lambda: -1, "0 to 1"),
        (lambda: True, "no route True"),
        (lambda: 0.5, "allowed"),
        (lambda: torch.tensor([0.0, 1.0]), "LongTensor"),
        (lambda: torch.tensor([[0, 1]]), "LongTensor"),
        (lambda: torch.tensor([0, 2, 0, 0, 0, 0]), "0 to 1"),
        (lambda: torch.tensor([0, 1]), "one route per sample"),
        (lambda: Split(clean=2, adv=3), "covers 5 samples and the batch has 6"),
        (lambda: Split(clean=2, dirty=4), "no route 'dirty'"),
        (lambda: Split(), "no parts"),
        (lambda: Split(clean=-1, adv=7), "at least 0"),
        (lambda: Split(("clean", 3), clean=3), "twice"),
        (lambda: Blend(clean=0.5, adv=0.6), "sum to 1"),
        (lambda: Blend(clean=-0.5, adv=1.5), "at least 0"),
        (lambda: Blend(), "either"),
        (lambda: Blend(torch.tensor([1, 0])), "float"),
        (lambda: Blend(torch.tensor([0.2, 0.3, 0.5])), "one weight per route"),
    ],
)
def test_wrong_selections_say_what_is_allowed(selection: Callable[[], object], says: str) -> None:
    model = net()
    with pytest.raises(RouteError, match=says), route(model, selection()):  # type: ignore[arg-type]  # wrong on purpose
        model(X)
    assert next(iter(routers_of(model))).selection == 0


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Router("adv"), "sequence of names"),
        (lambda: Router(()), "at least one route"),
        (lambda: Router(("a", "a")), "every name once"),
        (lambda: SaAuxBN2d(0), "at least 1"),
        (lambda: RoutedBatchNorm2d(3, affine=("sandwhich")), "allowed"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: RoutedBatchNorm2d(3, statistics=("each")), "allowed"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: RoutedBatchNorm2d(3, init="zeros"), "allowed"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: SaBN2d(3)(torch.zeros(2, 4, 3, 3)), "4-D tensor with 3 channels"),
        (lambda: SaBN2d(3)(torch.zeros(2, 3)), "4-D tensor"),
    ],
)
def test_wrong_construction_and_input(build: Callable[[], object], says: str) -> None:
    with pytest.raises(RouteError, match=says):
        build()


def test_route_needs_routed_layers() -> None:
    with pytest.raises(RouteError, match="convert it first"), route(nn.Linear(2, 2), "adv"):
        pass
