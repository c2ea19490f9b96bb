"""pytorchcv, a collection of published networks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from robustsabn import _torchvision
from zoo.making import maker
from zoo.network import Network, images

__all__ = ["networks"]

COLLECTION: dict[str, int] = {
    "resnet10": 64,
    "preresnet10": 64,
    "seresnet10": 64,
    "ror3_56_cifar10": 32,
    "rir_cifar10": 32,
    "shakedropresnet20_cifar10": 32,
    "fractalnet_cifar10": 32,
    "diaresnet20_cifar10": 32,
    "wrn16_10_cifar10": 32,
    "nin_cifar10": 32,
    "ibn_densenet121": 64,
    "bagnet9": 96,
    "airnet50_1x64d_r16": 64,
    "cbam_resnet18": 64,
    "octresnet10_ad2": 64,
    "resnesta18": 64,
    "peleenet": 64,
    "hardnet39ds": 64,
    "condensenet74_c4_g4": 64,
    "irevnet301": 64,
    "bninception": 224,
    "darknet_ref": 96,
    "channelnet": 64,
    "menet108_8x1_g3": 64,
    "mobilenet_wd4": 64,
    "igcv3_wd4": 64,
    "shufflenet_g1_wd4": 64,
    "sqnxt23_w1": 64,
    "hrnet_w18_small_v1": 64,
    "dicenet_wd5": 64,
    "nasnet_4a1056": 64,
    "darts": 64,
    "resattnet56": 64,
    "msdnet22": 224,
    "inceptionresnetv1": 96,
    "xdensenet121_2": 64,
    "enet_cityscapes": 64,
    "erfnet_cityscapes": 64,
    "linknet_cityscapes": 64,
    "unet_cityscapes": 64,
    "lednet_cityscapes": 64,
    "cgnet_cityscapes": 64,
    "fastscnn_cityscapes": 64,
    "fpenet_cityscapes": 64,
    "danet_resnetd50b_cityscapes": 64,
}


def networks() -> Iterator[Network]:
    """Every network of the table."""
    _torchvision.load()
    for name, size in COLLECTION.items():
        build = partial(_build, name, size)
        yield Network("pytorchcv", name, build, images(size), classifies="cityscapes" not in name)


def _build(name: str, size: int) -> nn.Module:
    """A network for small images: those of the collection end with an average over 7 x 7."""
    sized = {"in_size": (size, size)} if "cityscapes" in name else {}
    made = maker("pytorchcv.model_provider", "get_model", {"name": name, **sized})()
    for path, module in list(made.named_modules()):
        if path.endswith("final_pool") and isinstance(module, nn.AvgPool2d):
            made.set_submodule(path, nn.AdaptiveAvgPool2d(1))
    return made
