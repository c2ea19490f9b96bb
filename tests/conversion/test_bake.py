"""`bake` gives one route back as the plain network that was converted."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import Blend, Split, bake, convert
from robustsabn.errors import ConversionError, RouteError
from robustsabn.layers import (
    PRESETS,
    RoutedBatchNorm,
    RoutedBatchNorm1d,
    RoutedBatchNorm2d,
    RoutedBatchNorm3d,
    RoutedGroupNorm,
    RoutedInstanceNorm1d,
    RoutedInstanceNorm2d,
    RoutedInstanceNorm3d,
    RoutedLayerNorm,
    RoutedNorm,
)
from tests.helpers.conversion.norm_layers import CASES, LAYERS
from tests.helpers.randomise import randomise, through


def is_plain(model: nn.Module) -> bool:
    return not any(type(module).__module__.startswith("robustsabn") for module in model.modules())


@pytest.mark.parametrize(("layer", "norm"), CASES)
def test_a_route_becomes_the_layer_it_was(layer: str, norm: str) -> None:
    make, shape = LAYERS[layer]
    routed = randomise(convert(randomise(make()), norm, routes=3)).eval()
    x = torch.randn(shape)
    assert not torch.equal(through(routed, 0, x), through(routed, 2, x)) or PRESETS[norm][1] == "shared"
    for selection in (2, Blend(torch.tensor([0.2, 0.3, 0.5])), None):
        if selection is None and norm in ("ccbn", "auxbn"):
            continue
        baked = bake(routed, selection)
        fresh = make().eval()
        assert type(baked) is type(fresh)
        assert list(baked.state_dict()) == list(fresh.state_dict())
        assert baked.extra_repr() == fresh.extra_repr()
        assert not baked.training
        fresh.load_state_dict(baked.state_dict(), strict=True)
        assert torch.equal(baked(x), through(routed, selection, x))
        assert torch.equal(fresh(x), baked(x))


def test_baking_leaves_the_routed_model_alone() -> None:
    routed = randomise(convert(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)))).eval()
    before = copy.deepcopy(routed.state_dict())
    baked = bake(routed, "adv")
    assert is_plain(baked)
    assert not is_plain(routed)
    with torch.no_grad():
        for tensor in (*baked.parameters(), *baked.buffers()):
            tensor.zero_()
    for name, tensor in routed.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_baked_again_and_again_after_copies_and_pickles() -> None:
    routed = randomise(convert(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)))).eval()
    x = torch.randn(2, 3, 5, 5)
    expected = through(routed, "adv", x)
    for twin in (routed, routed, copy.deepcopy(routed), pickle.loads(pickle.dumps(routed))):
        assert torch.equal(bake(twin, "adv")(x), expected)
    assert torch.equal(bake(convert(bake(routed, "adv")).eval(), "clean")(x), expected)


def test_modes_and_requires_grad_are_kept() -> None:
    plain = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    plain[0].eval()
    plain[1].requires_grad_(False)
    routed = convert(plain)
    dict(routed.named_parameters())["2.weight"].requires_grad_(False)
    baked = bake(routed, "adv")
    assert [layer.training for layer in baked.children()] == [False, True, True]
    assert {name: p.requires_grad for name, p in baked.named_parameters()} == {
        "0.weight": True,
        "0.bias": True,
        "1.weight": False,
        "1.bias": False,
        "2.weight": True,
        "2.bias": True,
    }


def test_settings_changed_after_conversion_are_kept() -> None:
    routed = convert(nn.BatchNorm2d(3))
    assert isinstance(routed, RoutedBatchNorm)
    routed.momentum, routed.eps, routed.track_running_stats = 0.5, 1e-3, False
    baked = bake(routed, "adv")
    assert isinstance(baked, nn.BatchNorm2d)
    assert (baked.momentum, baked.eps, baked.track_running_stats) == (0.5, 1e-3, False)


def test_training_a_baked_network_equals_training_the_route() -> None:
    routed = randomise(convert(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))))
    baked = bake(routed, "adv")
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(baked(x), through(routed, "adv", x))
    assert torch.equal(baked.get_buffer("1.running_mean"), routed.get_buffer("1.running_mean")[1])


def test_aliases_stay_aliases() -> None:
    norm = nn.BatchNorm2d(3)
    routed = convert(nn.ModuleDict({"a": nn.Sequential(norm, norm), "b": norm}))
    baked = bake(routed, "adv")
    assert baked.get_submodule("a.0") is baked.get_submodule("a.1")
    assert baked.get_submodule("a.0") is baked.get_submodule("b")
    assert type(baked.get_submodule("b")) is nn.BatchNorm2d


@pytest.mark.parametrize("norm", PRESETS)
def test_tied_affines_load_into_a_plain_network_that_ties_them(norm: str) -> None:
    def build() -> nn.Sequential:
        model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
        model[2].weight, model[2].bias = model[0].weight, model[0].bias
        return model

    routed = randomise(convert(randomise(build()), norm)).eval()
    baked, fresh, x = bake(routed, "adv"), build().eval(), torch.randn(2, 3, 5, 5)
    assert baked.get_parameter("0.weight") is baked.get_parameter("2.weight")
    fresh.load_state_dict(baked.state_dict(), strict=True)
    assert torch.equal(fresh(x), through(routed, "adv", x))


def test_hooks_act_in_the_baked_network() -> None:
    def double(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return 2 * output

    plain = nn.Sequential(nn.BatchNorm2d(3)).eval()
    plain[0].register_forward_hook(double)
    x = torch.randn(2, 3, 5, 5)
    expected = plain(x)
    assert torch.equal(bake(convert(plain), "adv")(x), expected)


def test_torch_encoder_layer_gets_its_inference_kernel_back() -> None:
    plain = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    baked = bake(convert(copy.deepcopy(plain), "sabn"), "adv")
    assert vars(baked).keys() == vars(plain).keys()
    assert baked.activation_relu_or_gelu == plain.activation_relu_or_gelu


BY_HAND: dict[str, tuple[RoutedNorm, nn.Module, tuple[int, ...]]] = {
    "bn1d": (RoutedBatchNorm1d(6), nn.BatchNorm1d(6), (4, 6)),
    "bn2d": (RoutedBatchNorm2d(6, eps=0.1), nn.BatchNorm2d(6, eps=0.1), (4, 6, 2, 3)),
    "bn2d-untracked": (
        RoutedBatchNorm2d(6, track_running_stats=False),
        nn.BatchNorm2d(6, track_running_stats=False),
        (4, 6, 2, 3),
    ),
    "bn3d": (RoutedBatchNorm3d(6), nn.BatchNorm3d(6), (4, 6, 2, 2, 3)),
    "bn-any": (RoutedBatchNorm(6, sync=True), nn.SyncBatchNorm(6), (4, 6, 2, 3)),
    "layer": (RoutedLayerNorm((2, 3)), nn.LayerNorm([2, 3]), (4, 6, 2, 3)),
    "group": (RoutedGroupNorm(2, 6), nn.GroupNorm(2, 6), (4, 6, 2, 3)),
    "instance1d": (RoutedInstanceNorm1d(6), nn.InstanceNorm1d(6, affine=True), (4, 6, 3)),
    "instance2d": (RoutedInstanceNorm2d(6), nn.InstanceNorm2d(6, affine=True), (4, 6, 2, 3)),
    "instance3d": (RoutedInstanceNorm3d(6), nn.InstanceNorm3d(6, affine=True), (4, 6, 2, 2, 3)),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_layers_built_by_hand_become_torchs(kind: str) -> None:
    layer, fresh, shape = BY_HAND[kind]
    routed, x = randomise(copy.deepcopy(layer)).eval(), torch.randn(shape)
    baked = bake(routed, "adv")
    assert type(baked) is type(fresh)
    assert repr(baked) == repr(fresh)
    fresh.eval().load_state_dict(baked.state_dict(), strict=True)
    assert torch.equal(fresh(x), through(routed, "adv", x))


def test_what_cannot_be_baked() -> None:
    routed = convert(nn.Sequential(nn.BatchNorm2d(3)), "auxbn")
    with pytest.raises(ConversionError, match="no routed layers and nothing to bake"):
        bake(nn.Sequential(nn.BatchNorm2d(3)), "adv")
    for selection in (Split(clean=1, adv=1), torch.tensor([0, 1])):
        with pytest.raises(
            ConversionError, match="through different routes, but a plain network has only one"
        ):
            bake(routed, selection)
    with pytest.raises(RouteError, match=r"no route 'avd' \(did you mean adv"):
        bake(routed, "avd")
    with pytest.raises(RouteError, match="shared affine only"):
        bake(routed, None)
    with pytest.raises(ConversionError, match=r"wrapped \(DataParallel\)"):
        bake(nn.DataParallel(routed), "adv")
    with pytest.raises(ConversionError, match="RoutedLayerNorm built by hand has no counterpart"):
        bake(RoutedLayerNorm(3, channels_first=True), "adv")
