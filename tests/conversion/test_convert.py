"""Conversion keeps what a model computes: every layer and preset, modes, options, loading, copies."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from robustsabn import Blend, Split, convert, routes_of
from robustsabn.errors import ConversionError
from robustsabn.layers import PRESETS, RoutedBatchNorm, RoutedNorm
from robustsabn.routing import routers_of
from tests.helpers.conversion.norm_layers import CASES, LAYERS
from tests.helpers.randomise import randomise, through


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "norm"), CASES)
def test_every_route_computes_the_original(kind: str, norm: str, training: bool) -> None:
    make, shape = LAYERS[kind]
    plain = randomise(make()).train(training)
    x = torch.randn(shape)
    for selection in ("clean", 1):
        own = copy.deepcopy(plain)
        routed = convert(copy.deepcopy(plain), norm)
        assert isinstance(routed, RoutedNorm)
        assert torch.equal(through(routed, selection, x), own(x))
        if isinstance(routed, RoutedBatchNorm) and isinstance(own.running_mean, torch.Tensor):
            mean, var = routed._running(1 if selection == 1 else 0)
            assert torch.equal(mean, own.running_mean)
            assert torch.equal(var, own.get_buffer("running_var"))
    mixed = through(convert(copy.deepcopy(plain), norm).eval(), Blend(clean=0.3, adv=0.7), x)
    torch.testing.assert_close(mixed, plain.eval()(x))


def layer(model: nn.Module, name: str) -> RoutedBatchNorm:
    """The routed batch norm of a name."""
    found = model.get_submodule(name)
    assert isinstance(found, RoutedBatchNorm)
    return found


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.GroupNorm(2, 6))


@pytest.mark.parametrize("norm", PRESETS)
def test_layers_follow_the_preset_and_share_one_router(norm: str) -> None:
    model = convert(net(), norm, routes=("a", "b", "c"))
    batch, group = layer(model, "1"), model.get_submodule("3")
    assert (batch.statistics, batch.affine) == PRESETS[norm]
    if norm == "bn":
        assert type(group) is nn.GroupNorm
    else:
        assert isinstance(group, RoutedNorm)
        assert group.affine == PRESETS[norm].affine
        assert group.router is batch.router
    assert routes_of(model) == ("a", "b", "c")


def test_convert_returns_the_same_model_and_all_routes_agree_on_one_batch() -> None:
    model = randomise(net())
    x = torch.randn(4, 3, 5, 5)
    expected = copy.deepcopy(model).eval()(x)
    assert convert(model) is model
    out = through(model.eval(), Split(clean=1, adv=3), x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(through(model, torch.tensor([1, 0, 0, 1]), x), expected)
    torch.testing.assert_close(through(model, None, x), expected)


def test_number_of_routes() -> None:
    assert routes_of(convert(net(), routes=3)) == ("0", "1", "2")


def test_sync_is_asked_for_or_inherited() -> None:
    model = convert(nn.ModuleList([nn.BatchNorm2d(3), nn.SyncBatchNorm(3)]))
    assert [layer(model, name).sync for name in "01"] == [False, True]
    assert layer(convert(nn.Sequential(nn.BatchNorm2d(3)), sync=True), "0").sync


@pytest.mark.parametrize("norm", PRESETS)
def test_paper_initialisation_draws_what_a_layer_built_by_hand_draws(norm: str) -> None:
    model = convert(randomise(net()), norm, init="paper")
    converted = layer(model, "1")
    by_hand = RoutedBatchNorm(
        6, statistics=PRESETS[norm].statistics, affine=PRESETS[norm].affine, init="paper"
    )
    for name in ("weight", "bias", "route_weight", "route_bias"):
        drawn, expected = converted._parameters[name], by_hand._parameters[name]
        assert (drawn is None) == (expected is None)
        if drawn is not None and expected is not None:
            constant = bool((expected == expected.flatten()[0]).all())
            assert bool((drawn == expected.flatten()[0]).all()) == constant
            assert (drawn - expected).abs().max() < 0.2


def test_affine_less_batch_norm_routes_its_statistics_only() -> None:
    model = convert(nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3)), "saauxbn")
    routed = layer(model, "0")
    assert routed.affine == "none"
    assert not list(routed.parameters())
    through(model, "adv", torch.randn(4, 3, 5, 5))
    assert routed.running_mean is not None
    assert bool((routed.running_mean[0] == 0).all())
    assert bool((routed.running_mean[1] != 0).all())


@pytest.mark.parametrize("norm", ["ccbn", "sabn"])
def test_affine_less_layers_with_shared_statistics_stay_plain(norm: str) -> None:
    model = convert(
        nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.InstanceNorm2d(3), nn.BatchNorm2d(3)), norm
    )
    kinds = [type(child).__name__ for child in model.children()]
    assert kinds == ["BatchNorm2d", "InstanceNorm2d", "RoutedBatchNorm2d"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", PRESETS)
def test_a_plain_checkpoint_loads_and_every_route_starts_from_it(norm: str, bias: bool) -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.LayerNorm(3, bias=bias))
        if not bias:
            model[1].register_parameter("bias", None)
        return model

    plain = randomise(build()).eval()
    routed = randomise(convert(build(), norm)).eval()
    routed.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(4, 3, 5, 5)
    for selection in ("clean", "adv"):
        assert torch.equal(through(routed, selection, x), plain(x))


def test_a_plain_checkpoint_without_batch_counts_loads() -> None:
    plain = randomise(net()).eval()
    state = {k: v for k, v in plain.state_dict().items() if not k.endswith("num_batches_tracked")}
    routed = convert(net()).eval()
    routed.load_state_dict(state, strict=True)
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(through(routed, "adv", x), plain(x))


def test_copies_and_pickles_route_on_their_own() -> None:
    model = convert(randomise(net())).eval()
    x = torch.randn(4, 3, 5, 5)
    randomise(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(through(twin, "adv", x), through(model, "adv", x))
        with torch.no_grad():
            dict(twin.named_parameters())["1.route_bias"].add_(1)
        assert not torch.equal(through(twin, "adv", x), through(model, "adv", x))
        assert layer(twin, "1").router is not layer(model, "1").router
        assert layer(twin, "1").router is twin.get_submodule("3").router


def test_the_way_back_costs_no_memory() -> None:
    routed = convert(nn.BatchNorm2d(4096), "bn")
    plain = nn.BatchNorm2d(4096)
    sizes = []
    for module in (routed, plain):
        buffer = io.BytesIO()
        torch.save(module, buffer)
        sizes.append(buffer.tell())
    assert sizes[0] < sizes[1] + 4096
    assert [name for name, _ in routed.named_modules()] == [""]
    assert routed.state_dict().keys() == plain.state_dict().keys()


def test_torch_encoder_layer_takes_the_routes_in_inference_too() -> None:
    """Its fused inference kernel reads the norms' weights and never calls them."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    plain = randomise(encoder).eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        expected = plain(x)
        routed = convert(copy.deepcopy(plain), "sabn")
        torch.testing.assert_close(through(routed, "adv", x), expected)
        dict(routed.named_parameters())["norm1.route_weight"][8:].mul_(2)
        assert not torch.allclose(through(routed, "adv", x), expected)
        torch.testing.assert_close(through(routed, "clean", x), expected)


def test_second_conversion_joins_the_first() -> None:
    model = convert(net(), "saauxbn", filter_fn=lambda module, name: isinstance(module, nn.BatchNorm2d))
    assert type(model.get_submodule("3")) is nn.GroupNorm
    with pytest.raises(ConversionError, match="already has the routes clean, adv"):
        convert(model, "sabn", routes=("a", "b"))
    assert type(model.get_submodule("3")) is nn.GroupNorm
    convert(model, "ccbn")
    assert list(routers_of(model)) == [layer(model, "1").router]
    with pytest.raises(ConversionError, match="already converted"):
        convert(model, "ccbn")
