"""Architectures of torchvision and timm: converted, told apart by route, baked, and loaded into a fresh plain network."""

from __future__ import annotations

import copy
import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import _torchvision, bake, convert
from robustsabn.conversion.plain_norms import KINDS
from robustsabn.layers import PRESETS, RoutedNorm
from tests.helpers.randomise import randomise, through

_torchvision.load()
timm = pytest.importorskip("timm")

ZOO: dict[str, tuple[int, dict[str, Any]]] = {
    "torchvision:resnet18": (32, {}),
    "torchvision:resnext50_32x4d": (32, {}),
    "torchvision:densenet121": (32, {}),
    "torchvision:mobilenet_v2": (32, {}),
    "torchvision:mobilenet_v3_small": (32, {}),
    "torchvision:mnasnet0_5": (32, {}),
    "torchvision:efficientnet_b0": (32, {}),
    "torchvision:regnet_y_400mf": (32, {}),
    "torchvision:regnet_x_400mf": (32, {}),
    "torchvision:shufflenet_v2_x0_5": (32, {}),
    "torchvision:googlenet": (64, {"init_weights": False, "aux_logits": False}),
    "torchvision:inception_v3": (96, {"init_weights": False, "aux_logits": False}),
    "torchvision:convnext_tiny": (32, {}),
    "torchvision:vit_b_16": (32, {"image_size": 32}),
    "torchvision:swin_t": (64, {}),
    "timm:resnet18": (32, {}),
    "timm:resnet26d": (32, {}),
    "timm:resnet50_gn": (32, {"layers": (1, 1, 1, 1)}),
    "timm:resnetv2_50d_gn": (32, {"layers": (1, 1, 1, 1)}),
    "timm:resnetv2_18": (32, {}),
    "timm:densenet121": (32, {}),
    "timm:mobilenetv3_small_050": (32, {}),
    "timm:mobilenetv4_conv_small": (32, {}),
    "timm:efficientnet_lite0": (32, {}),
    "timm:tf_efficientnet_b0": (32, {}),
    "timm:regnety_002": (32, {}),
    "timm:convnext_atto": (32, {}),
    "timm:convnextv2_atto": (32, {}),
    "timm:vit_tiny_patch16_224": (32, {"img_size": 32}),
    "timm:swin_tiny_patch4_window7_224": (32, {"img_size": 32, "window_size": 4, "depths": (1, 1, 2, 1)}),
    "timm:mixer_s32_224": (64, {"img_size": 64}),
    "timm:gmlp_ti16_224": (32, {"img_size": 32}),
    "timm:inception_v3": (96, {}),
    "timm:dla34": (32, {}),
    "timm:ese_vovnet19b_slim": (32, {}),
    "timm:repvgg_a0": (32, {}),
    "timm:poolformer_s12": (64, {}),
    "timm:mobilevit_xxs": (64, {}),
    "timm:ghostnet_050": (32, {}),
    "timm:edgenext_xx_small": (64, {}),
    "timm:fastvit_t8": (64, {}),
    "timm:caformer_s18": (64, {}),
}


def build(name: str) -> nn.Module:
    source, _, model = name.partition(":")
    options = {"num_classes": 10, **ZOO[name][1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices about default weights and initialisation
        if source == "timm":
            out: nn.Module = timm.create_model(model, pretrained=False, **options)
        else:
            out = _torchvision.load("torchvision.models").get_model(model, weights=None, **options)
    return out.eval()


def wake(model: nn.Module) -> None:
    """Give zero-initialised heads and tiny layer scales a size at which the blocks before them show."""
    for parameter in model.parameters():
        if parameter.numel() > 1 and parameter.std() < 1e-4:
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.filterwarnings("ignore::robustsabn.errors.PlainNormWarning")
@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_converted_baked_and_loaded(name: str) -> None:
    norm = list(PRESETS)[1 + list(ZOO).index(name) % 4]
    model = randomise(build(name), 0.1)
    wake(model)
    x: Tensor = torch.rand(2, 3, ZOO[name][0], ZOO[name][0])
    expected = model(x)
    assert convert(model, norm) is model
    for selection in ("clean", "adv"):
        torch.testing.assert_close(through(model, selection, x), expected, rtol=0, atol=1e-6)
    randomise(model, 0.1)
    clean, adv = through(model, "clean", x), through(model, "adv", x)
    assert not torch.allclose(clean, adv)
    baked = bake(model, "adv")
    assert not any(isinstance(module, RoutedNorm) for module in baked.modules())
    fresh = build(name)
    assert [type(module) for module in fresh.modules()] == [type(module) for module in baked.modules()]
    fresh.load_state_dict(baked.state_dict(), strict=True)
    torch.testing.assert_close(fresh(x), adv, rtol=0, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_known_class(name: str, training: bool) -> None:
    module, _, cls = name.rpartition(".")
    make = getattr(importlib.import_module(module), cls)
    channels_last = "LayerNorm" in cls and not cls.startswith("LayerNorm2d") and not cls.endswith("Act2d")
    args: tuple[Any, ...] = (2, 6) if name == "torch.nn.modules.normalization.GroupNorm" else (6,)
    options: dict[str, Any] = (
        {"num_groups": 3} if cls in ("GroupNorm", "GroupNormAct") and len(args) == 1 else {}
    )
    options |= {"affine": True} if "Instance" in cls else {}
    plain = randomise(make(*args, **options)).train(training)
    if cls.endswith(("Act", "Act2d")):
        plain.drop, plain.act = nn.Dropout(0.5), nn.PReLU(num_parameters=6 if not channels_last else 1)
    shape = {"1d": (4, 6, 3), "3d": (4, 6, 2, 3, 3)}.get(cls[-2:], (4, 6, 3, 3))
    x = torch.randn(shape[:1] + shape[2:] + shape[1:2] if channels_last else shape)
    torch.manual_seed(1)
    expected = copy.deepcopy(plain)(x)
    assert name.startswith("torch.") or not torch.equal(expected, x)
    keys = list(plain.state_dict())
    for selection in ("clean", "adv"):
        torch.manual_seed(1)
        routed = convert(copy.deepcopy(plain))
        assert torch.equal(through(routed, selection, x), expected)
        baked = bake(routed, selection)
        assert type(baked) is make
        assert list(baked.state_dict()) == keys
