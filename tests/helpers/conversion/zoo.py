"""Architectures of torchvision and timm, by the names they have there, and how to build and stir one."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import _torchvision

__all__ = ["ZOO", "build", "wake"]

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
