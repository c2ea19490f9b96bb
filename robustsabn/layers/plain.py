"""The plain layer that a routed layer is, on one route."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robustsabn.errors import ConversionError
from robustsabn.layers.base import RoutedNorm
from robustsabn.layers.batchnorm import (
    RoutedBatchNorm,
    RoutedBatchNorm1d,
    RoutedBatchNorm2d,
    RoutedBatchNorm3d,
)
from robustsabn.layers.sample_norms import (
    RoutedGroupNorm,
    RoutedInstanceNorm1d,
    RoutedInstanceNorm2d,
    RoutedInstanceNorm3d,
    RoutedLayerNorm,
)
from robustsabn.routing import Resolved
from robustsabn.surgery import hollow

__all__ = ["Tied", "plain_layer"]

Tied = dict[tuple[int, ...], nn.Parameter]


def plain_layer(layer: RoutedNorm, selection: Resolved, tied: Tied) -> nn.Module:
    """The plain layer, without children and hooks, that computes a whole-batch selection of a routed layer.

    `tied` keeps the parameters made so far: those that come from the same parameters are one again.
    """
    new: Any = _fresh(layer) if layer.skeleton is None else hollow(layer.skeleton)
    new.training, new.eps = layer.training, layer.eps
    own = {name: layer._parameters[name] for name in ("weight", "route_weight", "bias", "route_bias")}
    for name, value in zip(("weight", "bias"), layer.effective_affine(selection), strict=True):
        if value is None:
            new._parameters[name] = None
            continue
        sources = [own[key] for key in (own if name == "bias" else ("weight", "route_weight"))]
        key = (name == "bias", *map(id, sources))
        if key not in tied:
            trained = any(source.requires_grad for source in sources if source is not None)
            tied[key] = nn.Parameter(value.detach().clone(), requires_grad=trained)
        new._parameters[name] = tied[key]
    if isinstance(layer, RoutedBatchNorm):
        new.momentum, new.track_running_stats = layer.momentum, layer.track_running_stats
        new._buffers.update(_statistics(layer, selection))
    return new  # type: ignore[no-any-return]


def _statistics(layer: RoutedBatchNorm, selection: Resolved) -> dict[str, Tensor | None]:
    if layer.running_mean is None:
        return dict.fromkeys(("running_mean", "running_var", "num_batches_tracked"))
    mean, var = layer._running(selection)
    count = layer.num_batches_tracked
    if count is not None and count.ndim:
        count = count[selection] if isinstance(selection, int) else count.max()
    return {
        "running_mean": mean.detach().to(layer.running_mean.dtype, copy=True),
        "running_var": var.detach().to(layer.running_mean.dtype, copy=True),
        "num_batches_tracked": None if count is None else count.clone(),
    }


def _fresh(layer: RoutedNorm) -> nn.Module:
    """Torch's own layer for a routed one that was built by hand."""
    affine: dict[str, Any] = {"affine": layer.affine != "none", "device": "meta"}
    norms: dict[type[RoutedNorm], type[nn.Module]] = {
        RoutedBatchNorm1d: nn.BatchNorm1d,
        RoutedBatchNorm2d: nn.BatchNorm2d,
        RoutedBatchNorm3d: nn.BatchNorm3d,
        RoutedInstanceNorm1d: nn.InstanceNorm1d,
        RoutedInstanceNorm2d: nn.InstanceNorm2d,
        RoutedInstanceNorm3d: nn.InstanceNorm3d,
    }
    for routed, plain in norms.items():
        if isinstance(layer, routed):
            return plain(layer.num_features, **affine)
    if isinstance(layer, RoutedBatchNorm):  # any rank, and so is torch's
        return nn.SyncBatchNorm(layer.num_features, **affine)
    if isinstance(layer, RoutedGroupNorm):
        return nn.GroupNorm(layer.num_groups, layer.num_channels, **affine)
    if isinstance(layer, RoutedLayerNorm) and not layer.channels_first:
        return nn.LayerNorm(list(layer.shape), elementwise_affine=affine["affine"], device="meta")
    raise ConversionError(
        f"{type(layer).__name__} built by hand has no counterpart in torch; "
        "build the model with plain layers and convert it, then it bakes back to those"
    )
