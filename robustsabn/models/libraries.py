"""Networks of torchvision and timm, for images in [0, 1]."""

from collections import OrderedDict
from typing import Any

from torch import nn

from robustsabn import _torchvision
from robustsabn.errors import ModelError
from robustsabn.models.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from robustsabn.text import nearest, one_line, quote

__all__ = ["from_timm", "from_torchvision", "normalized"]


def normalized(model: nn.Module, normal: Normalize) -> nn.Module:
    """A Sequential of `normal` and `model`."""
    return nn.Sequential(OrderedDict(normal=normal, model=model))


def from_torchvision(
    name: str, num_classes: int | None, in_channels: int | None
) -> tuple[nn.Module, Normalize]:
    """A torchvision classifier with random weights, by default 1000 classes, and ImageNet's normalisation."""
    library = _torchvision.load("torchvision.models")
    known = library.list_models(module=library)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {quote(name)}{nearest(name, known)}")
    if in_channels not in (None, 3):
        raise ModelError(f"torchvision:{name} takes images of 3 channels only, not {in_channels}")
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    return _create(library.get_model, name, options), Normalize(IMAGENET_MEAN, IMAGENET_STD)


def from_timm(name: str, num_classes: int | None, in_channels: int | None) -> tuple[nn.Module, Normalize]:
    """A timm classifier with random weights, and its normalisation. Raises MissingExtraError without timm."""
    timm = _torchvision.load_optional("timm", "timm is not installed; pip install 'robustsabn[timm]'")
    if not timm.is_model(name):
        raise ModelError(f"timm has no network {quote(name)}{nearest(name, timm.list_models())}")
    options = {"num_classes": num_classes, "in_chans": in_channels}
    model = _create(timm.create_model, name, {k: v for k, v in options.items() if v is not None})
    described: Any = getattr(model, "pretrained_cfg", None) or {}
    usual = in_channels in (None, 3)
    mean, std = (described.get("mean"), described.get("std")) if usual else (None, None)
    return model, Normalize.for_channels(in_channels or 3, mean, std)


def _create(create: Any, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = create(name, **options)
    except Exception as error:
        raise ModelError(f"{name} cannot be built with {options}: {one_line(error)}") from error
    return model
