"""Weights moved for a while: which ones, how far, and back bit for bit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

__all__ = ["layer_weights", "moved"]


def layer_weights(model: nn.Module) -> list[nn.Parameter]:
    """Trained weights of convolutions, linear layers and attention, each once; no bias, norm, affine or embedding."""
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        weights: list[Tensor | None] = []
        if isinstance(module, (_ConvNd, nn.Linear, nn.Bilinear)):
            weights = [module.weight]
        elif isinstance(module, nn.MultiheadAttention):
            names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
            weights = [getattr(module, name) for name in names]
        for weight in weights:
            if isinstance(weight, nn.Parameter) and weight.requires_grad:
                found.setdefault(id(weight), weight)
    return list(found.values())


@contextmanager
def moved(weights: Sequence[nn.Parameter], directions: Sequence[Tensor], gamma: float) -> Iterator[None]:
    """Every w at w + gamma ||w|| d / ||d||, and at its exact former value afterwards. Zero directions move nothing."""
    kept = [w.detach().clone() for w in weights]
    try:
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(d.to(w) * (gamma * w.norm() / d.norm().clamp_min(torch.finfo(d.dtype).tiny)))
        yield
    finally:
        with torch.no_grad():
            for w, former in zip(weights, kept, strict=True):
                w.copy_(former)
