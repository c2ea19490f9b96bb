"""The plain normalisation layers with a routed counterpart, by class name, so that timm is not imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from robustsabn.layers import (
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

__all__ = ["KINDS", "Kind", "is_norm", "kind_of", "looks_like_norm"]


class Kind(NamedTuple):
    """The routed counterpart of a plain layer, its arguments, and the children called after the norm."""

    routed: type[RoutedNorm]
    arguments: Callable[[Any], dict[str, Any]]
    after: tuple[str, ...] = ()

    @property
    def has_statistics(self) -> bool:
        """Whether the layer has running statistics, which a preset may keep per route."""
        return issubclass(self.routed, RoutedBatchNorm)


def _batch(m: Any) -> dict[str, Any]:
    tracked = m.running_mean is not None
    return {
        "num_features": m.num_features,
        "eps": m.eps,
        "momentum": m.momentum,
        "track_running_stats": tracked,
    }


def _layer(m: Any) -> dict[str, Any]:
    return {"normalized_shape": m.normalized_shape, "eps": m.eps}


def _layer_channels_first(m: Any) -> dict[str, Any]:
    return {**_layer(m), "channels_first": True}


def _group(m: Any) -> dict[str, Any]:
    return {"num_groups": m.num_groups, "num_channels": m.num_channels, "eps": m.eps}


def _instance(m: Any) -> dict[str, Any]:
    return {"num_features": m.num_features, "eps": m.eps}


_ACT = ("drop", "act")
_CALLED = r"(?i:norm(?!ali[sz]))|GRN|FRN"

KINDS: dict[str, Kind] = {
    "torch.nn.modules.batchnorm.BatchNorm1d": Kind(RoutedBatchNorm1d, _batch),
    "torch.nn.modules.batchnorm.BatchNorm2d": Kind(RoutedBatchNorm2d, _batch),
    "torch.nn.modules.batchnorm.BatchNorm3d": Kind(RoutedBatchNorm3d, _batch),
    "torch.nn.modules.batchnorm.SyncBatchNorm": Kind(RoutedBatchNorm, _batch),
    "torch.nn.modules.normalization.LayerNorm": Kind(RoutedLayerNorm, _layer),
    "torch.nn.modules.normalization.GroupNorm": Kind(RoutedGroupNorm, _group),
    "torch.nn.modules.instancenorm.InstanceNorm1d": Kind(RoutedInstanceNorm1d, _instance),
    "torch.nn.modules.instancenorm.InstanceNorm2d": Kind(RoutedInstanceNorm2d, _instance),
    "torch.nn.modules.instancenorm.InstanceNorm3d": Kind(RoutedInstanceNorm3d, _instance),
    "torchvision.models.convnext.LayerNorm2d": Kind(RoutedLayerNorm, _layer_channels_first),
    "timm.layers.norm.GroupNorm": Kind(RoutedGroupNorm, _group),
    "timm.layers.norm.GroupNorm1": Kind(RoutedGroupNorm, _group),
    "timm.layers.norm.LayerNorm": Kind(RoutedLayerNorm, _layer),
    "timm.layers.norm.LayerNorm2d": Kind(RoutedLayerNorm, _layer_channels_first),
    "timm.layers.norm_act.BatchNormAct2d": Kind(RoutedBatchNorm2d, _batch, _ACT),
    "timm.layers.norm_act.SyncBatchNormAct": Kind(RoutedBatchNorm, _batch, _ACT),
    "timm.layers.norm_act.GroupNormAct": Kind(RoutedGroupNorm, _group, _ACT),
    "timm.layers.norm_act.GroupNorm1Act": Kind(RoutedGroupNorm, _group, _ACT),
    "timm.layers.norm_act.LayerNormAct": Kind(RoutedLayerNorm, _layer, _ACT),
    "timm.layers.norm_act.LayerNormAct2d": Kind(RoutedLayerNorm, _layer_channels_first, _ACT),
    "timm.models.metaformer.GroupNorm1NoBias": Kind(RoutedGroupNorm, _group),
    "timm.models.metaformer.LayerNorm2dNoBias": Kind(RoutedLayerNorm, _layer_channels_first),
    "timm.models.metaformer.LayerNormNoBias": Kind(RoutedLayerNorm, _layer),
}


def kind_of(module: nn.Module) -> Kind | None:
    """The entry for exactly this module's class."""
    cls = type(module)
    return KINDS.get(f"{cls.__module__}.{cls.__qualname__}")


def is_norm(module: nn.Module) -> bool:
    """Whether a module is one of torch's normalisation layers or of a subclass of one."""
    return isinstance(module, (_NormBase, nn.LayerNorm, nn.GroupNorm))


def looks_like_norm(module: nn.Module) -> bool:
    """Whether a module's class is named like a norm, and all its parameters and buffers are its own."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    alone = len(own) == len([*module.parameters(), *module.buffers()])
    return bool(own) and alone and re.search(_CALLED, type(module).__name__) is not None
