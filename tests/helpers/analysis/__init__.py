"""A small network in float64, its loss written from the formulas, and derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn import convert
from tests.helpers.layer_reference import affine64

__all__ = ["X", "Y", "by_differences", "loss64", "small", "unchanged"]

_g = torch.Generator().manual_seed(7)
X = torch.rand(6, 2, 3, 3, generator=_g, dtype=torch.float64)
Y = torch.arange(6) % 3


def small(norm: str = "saauxbn", routes: Any = ("clean", "adv")) -> Any:
    """Two convolutions, each before a routed norm, and a linear layer; random parameters and statistics."""
    torch.manual_seed(3)
    layers = (nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2))
    model: Any = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(2, 3)).double()
    model = convert(model, norm=norm, routes=routes) if norm != "none" else model
    for i in (1, 4):
        for parameter in model[i].parameters():
            nn.init.normal_(parameter, 1.0, 0.3)
        model[i].running_mean.normal_()
        model[i].running_var.uniform_(0.5, 2)
    return model.train()


def loss64(model: Any, route: int, training: bool = True, x: Tensor = X) -> Tensor:
    """Mean cross entropy of X through one route, from the formulas; `model.extra` are added to affines."""
    h = x
    for i in (0, 3):
        h = F.conv2d(h, model[i].weight, model[i].bias)
        norm = model[i + 1]
        if training:
            mean = h.transpose(0, 1).flatten(1).mean(1)
            var = ((h - mean[:, None, None]) ** 2).transpose(0, 1).flatten(1).mean(1)
        else:
            rows = norm.running_mean.ndim > 1
            mean = norm.running_mean[route] if rows else norm.running_mean
            var = norm.running_var[route] if rows else norm.running_var
        scale, shift = torch.ones_like(mean), torch.zeros_like(mean)
        for gain, bias in affine64(norm, route):
            if gain is not None and bias is not None:
                scale, shift = gain * scale, gain * shift + bias
        moved = getattr(model, "moved", {}).get(i + 1)
        scale, shift = (scale, shift) if moved is None else (scale + moved[0], shift + moved[1])
        h = (h - mean[:, None, None]) / torch.sqrt(var[:, None, None] + norm.eps)
        h = h * scale[:, None, None] + shift[:, None, None]
        h = torch.tanh(h) if i == 0 else h
    z = h.flatten(1) @ model[7].weight.T + model[7].bias
    loss: Tensor = (z.exp().sum(1).log() - z[torch.arange(len(z)), Y]).mean()
    return loss


@torch.no_grad()
def by_differences(function: Callable[[], Tensor], at: Tensor, h: float = 1e-6) -> Tensor:
    """The derivative of a function by every element of a tensor that it reads, by central differences."""
    flat, found = at.view(-1), torch.zeros(at.numel(), dtype=torch.float64)
    for i in range(at.numel()):
        value = flat[i].item()
        flat[i] = value + h
        above = function().item()
        flat[i] = value - h
        found[i] = (above - function().item()) / (2 * h)
        flat[i] = value
    return found.view_as(at)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    grads = {f"grad of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    own = {**model.state_dict(), **grads, "random": torch.get_rng_state()}
    return {name: value.clone() for name, value in own.items()}


def settings_of(model: nn.Module) -> list[Any]:
    modules = list(model.modules())
    learned = {"batch_dim"}  # by a layer in its first forward with routes by sample, for good
    return [
        [
            (m.training, getattr(m, "track_running_stats", None), sorted({*vars(m)} - learned))
            for m in modules
        ],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
    ]


@contextmanager
def unchanged(model: nn.Module) -> Any:
    """AssertionError if the block changes tensors, gradients, modes, attributes, hooks or random numbers."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    tensors, settings = tensors_of(model), settings_of(model)
    yield
    assert settings_of(model) == settings
    after = tensors_of(model)
    assert set(after) == set(tensors)
    assert [name for name, value in after.items() if not torch.equal(value, tensors[name])] == []
