"""`bake`: one route of a routed model as the plain network that was converted."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import routing
from robustsabn.errors import ConversionError
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
from robustsabn.routing import Resolved, Router, Selection, routers_of
from robustsabn.surgery import hollow, move_hooks, restore_fast_path, wrapper_of

__all__ = ["bake"]

Tied = dict[tuple[int, ...], nn.Parameter]


def bake(model: nn.Module, route: Selection) -> nn.Module:
    """A new plain network that computes what `model` computes on one route; `model` is not touched.

    `route`: a name or number, a `Blend`, or None (shared affine only). Classes, state-dict keys, modes,
    requires_grad, aliases and hooks are those of the architecture that was converted, so that its state dict loads with
    `strict=True` into a fresh plain model. Raises ConversionError for a model without routed layers, a wrapped one, and a
    selection that differs between samples; RouteError for a route that the model lacks.
    """
    if not isinstance(model, nn.Module):
        raise ConversionError(f"the model is {type(model).__name__}; give a converted torch.nn.Module")
    wrapper = wrapper_of(model)
    if wrapper:
        raise ConversionError(f"the model is wrapped ({wrapper}); bake the model inside it")
    routers = routers_of(model)
    if not routers:
        raise ConversionError(
            f"{type(model).__name__} has no routed layers; there is nothing to bake: give what convert() returned"
        )
    memo: dict[int, Any] = {}
    plain: dict[RoutedNorm, nn.Module] = {}
    tied: Tied = {}
    with routing.route(model, route), torch.no_grad():
        for router, layers in routers.items():
            chosen = _whole_batch(router, route)
            for layer in layers:
                if not isinstance(layer, RoutedNorm):
                    raise ConversionError(f"{type(layer).__name__} takes routes and has no plain counterpart")
                memo[id(layer)] = plain[layer] = _plain(layer, chosen, tied)
    for layer, new in plain.items():
        new._modules.update(copy.deepcopy(layer._modules, memo))
        _copy_hooks(layer, new, memo)
    baked = copy.deepcopy(model, memo)
    restore_fast_path(baked)
    return baked


def _whole_batch(router: Router, asked: Selection) -> Resolved:
    chosen = router.selection
    if isinstance(chosen, tuple) or (isinstance(chosen, Tensor) and not chosen.is_floating_point()):
        raise ConversionError(
            f"{type(asked).__name__} sends samples through different routes and a plain network has one; "
            "give a route's name or number, a Blend or None"
        )
    return chosen


def _plain(layer: RoutedNorm, selection: Resolved, tied: Tied) -> nn.Module:
    """The plain layer, without children and hooks, that computes one selection of a routed layer."""
    new: Any = _fresh(layer) if layer.skeleton is None else hollow(layer.skeleton)
    new.training, new.eps = layer.training, layer.eps
    own = {name: getattr(layer, name) for name in ("weight", "route_weight", "bias", "route_bias")}
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
        "running_mean": mean.detach().clone(),
        "running_var": var.detach().clone(),
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


def _copy_hooks(layer: RoutedNorm, new: nn.Module, memo: dict[int, Any]) -> None:
    shell = nn.Module()
    for name, value in vars(layer).items():
        if "hook" in name or name == "_non_persistent_buffers_set":
            shell.__dict__[name] = copy.deepcopy(value, memo)
    move_hooks(shell, new)
