"""`bake`: turn one route of a routed model into a plain network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from robustsabn import routing
from robustsabn.errors import ConversionError
from robustsabn.layers import RoutedNorm
from robustsabn.layers.base import Tied
from robustsabn.routing import Resolved, Router, Selection, is_whole_batch, routers_of
from robustsabn.surgery import move_hooks, restore_fast_path, wrapper_of

__all__ = ["bake"]


def bake(model: nn.Module, route: Selection) -> nn.Module:
    """A new plain network that computes what `model` computes on one route; `model` does not change.

    `route`: a name or number, a `Blend`, or None (shared affine only). Classes, state-dict keys, modes,
    requires_grad, aliases and hooks are those of the network that was converted, so that the state dict loads
    with `strict=True` into a fresh plain network.
    Raises ConversionError for a model without routed layers, a wrapped model, and a selection that differs
    between samples; RouteError for a route that the model does not have.

    Example:

        >>> import torch
        >>> from robustsabn import bake, convert, route
        >>> model = convert(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))).eval()
        >>> plain = bake(model, "adv")
        >>> type(plain[1]).__name__
        'BatchNorm2d'
        >>> x = torch.rand(2, 3, 8, 8)
        >>> with route(model, "adv"):
        ...     torch.allclose(plain(x), model(x), atol=1e-6)
        True
    """
    if not isinstance(model, nn.Module):
        raise ConversionError(f"the model is {type(model).__name__}; give a converted torch.nn.Module")
    wrapper = wrapper_of(model)
    if wrapper:
        raise ConversionError(f"the model is wrapped ({wrapper}); bake the model inside it")
    routers = routers_of(model)
    if not routers:
        raise ConversionError(
            f"{type(model).__name__} has no routed layers and nothing to bake; give a model that convert() "
            "returned"
        )
    memo: dict[int, Any] = {}
    plain: dict[RoutedNorm, nn.Module] = {}
    tied: Tied = {}
    with routing.route(model, route), torch.no_grad():
        for router, layers in routers.items():
            chosen = _whole_batch(router, route)
            for layer in layers:
                if not isinstance(layer, RoutedNorm):
                    raise ConversionError(
                        f"{type(layer).__name__} has routes but no plain counterpart; bake a model without it"
                    )
                memo[id(layer)] = plain[layer] = layer.as_plain(chosen, tied)
    for layer, new in plain.items():
        new._modules.update(copy.deepcopy(layer.modules_beside_affine(), memo))
        _copy_hooks(layer, new, memo)
    baked = copy.deepcopy(model, memo)
    restore_fast_path(baked)
    return baked


def _whole_batch(router: Router, given: Selection) -> Resolved:
    chosen = router.selection
    if not is_whole_batch(chosen):
        raise ConversionError(
            f"{type(given).__name__} sends samples through different routes, but a plain network has only "
            "one; give a route's name or number, a Blend or None"
        )
    return chosen


def _copy_hooks(layer: RoutedNorm, new: nn.Module, memo: dict[int, Any]) -> None:
    shell = nn.Module()
    for name, value in vars(layer).items():
        if "hook" in name or name == "_non_persistent_buffers_set":
            shell.__dict__[name] = copy.deepcopy(value, memo)
    move_hooks(shell, new)
