"""Slow obvious float64 references, written from the formulas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustsabn import RoutedBatchNorm2d
from robustsabn.layers import PRESETS, RoutedBatchNorm


def make(
    preset: str, dtype: torch.dtype = torch.float64, channels: int = 3, **options: Any
) -> RoutedBatchNorm2d:
    """A layer with random parameters and statistics."""
    statistics, affine = PRESETS[preset]
    layer = RoutedBatchNorm2d(channels, statistics=statistics, affine=affine, dtype=dtype, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    if layer.running_mean is not None and layer.running_var is not None:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return layer


def affine64(layer: torch.nn.Module, route: int) -> list[tuple[Tensor | None, Tensor | None]]:
    """The affines that a sample of `route` passes, in their order."""
    shared = (layer._parameters.get("weight"), layer._parameters.get("bias"))
    table, shift = getattr(layer, "route_weight", None), getattr(layer, "route_bias", None)
    own = (None if table is None else table[route], None if shift is None else shift[route])
    return [shared, own]


def batch_norm64(layer: RoutedBatchNorm, x: Tensor, routes: list[int], training: bool) -> Tensor:
    """y = g_r (g_s xhat + b_s) + b_r, one sample and one channel at a time; differentiable."""
    out = []
    for n in range(len(x)):
        mates = [m for m in range(len(x)) if layer.statistics == "shared" or routes[m] == routes[n]]
        channels = []
        for c in range(x.shape[1]):
            if training:
                values = torch.stack([x[m, c].flatten() for m in mates]).flatten()
                mean = values.sum() / values.numel()
                var = ((values - mean) ** 2).sum() / values.numel()
            else:
                assert layer.running_mean is not None
                assert layer.running_var is not None
                at = (routes[n], c) if layer.statistics == "per_route" else (c,)
                mean, var = layer.running_mean[at].double(), layer.running_var[at].double()
            y = (x[n, c] - mean) / torch.sqrt(var + layer.eps)
            for scale, shift in affine64(layer, routes[n]):
                y = y if scale is None else scale[c] * y
                y = y if shift is None else y + shift[c]
            channels.append(y)
        out.append(torch.stack(channels))
    return torch.stack(out)


def running64(layer: RoutedBatchNorm, x: Tensor, routes: list[int], momentum: float) -> tuple[Tensor, Tensor]:
    """Running mean and variance after one batch, from those that `layer` holds before it."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, var = layer.running_mean.double().clone(), layer.running_var.double().clone()
    per_route = layer.statistics == "per_route"
    for r in sorted(set(routes)) if per_route else [0]:
        mates = [n for n in range(len(x)) if not per_route or routes[n] == r]
        for c in range(x.shape[1]):
            values = torch.stack([x[n, c].double().flatten() for n in mates]).flatten()
            centre = values.sum() / values.numel()
            spread = ((values - centre) ** 2).sum() / (values.numel() - 1)
            at = (r, c) if per_route else (c,)
            mean[at] = (1 - momentum) * mean[at] + momentum * centre
            var[at] = (1 - momentum) * var[at] + momentum * spread
    return mean, var
