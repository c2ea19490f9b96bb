"""Helpers of the conversion tests: random affines and statistics, a forward by route, small networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import route


def randomise(model: nn.Module, spread: float = 0.2) -> nn.Module:
    """Draw affines and running statistics at random, in place, so that mixing any two of them up shows."""
    norms = ("weight", "bias", "route_weight", "route_bias", "running_mean", "running_var")
    with torch.no_grad():
        for module in model.modules():
            if not hasattr(module, "eps"):
                continue
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None and name in norms:
                    tensor.mul_(torch.empty_like(tensor).uniform_(1 - spread, 1 + spread))
                    if name != "running_var":
                        tensor.add_(torch.empty_like(tensor).uniform_(-spread, spread))
    return model


def through(model: nn.Module, selection: Any, x: Tensor) -> Tensor:
    """The output of one route."""
    with route(model, selection):
        out = model(x)
    assert isinstance(out, Tensor)
    return out


class Parent(nn.Module):
    """A block around a norm layer that others may hold as well."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x)
        return out


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
