"""Weights moved for a while: which ones, how far, and back bit for bit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from robustsabn.errors import ConfigError

__all__ = ["layer_weights", "moved"]

_NAMED = 5


def layer_weights(model: nn.Module) -> list[nn.Parameter]:
    """Trained weights of convolutions, linear layers and attention, each once; no bias, norm, affine or
    embedding.

    ConfigError where there is none, and where one is computed from other parameters (weight_norm,
    parametrisations): gamma is a share of the weights themselves, and these would be left out.
    """
    found: dict[int, nn.Parameter] = {}
    computed = []
    for name, module in model.named_modules():
        weights: list[Tensor | None] = []
        if isinstance(module, (_ConvNd, nn.Linear, nn.Bilinear)):
            weights = [module.weight]
        elif isinstance(module, nn.MultiheadAttention):
            parts = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
            weights = [getattr(module, part) for part in parts]
        for weight in weights:
            if weight is None:
                continue
            if not isinstance(weight, nn.Parameter):
                if any(p.requires_grad for p in module.parameters()):
                    computed.append(name or type(module).__name__)
            elif weight.requires_grad:
                found.setdefault(id(weight), weight)
    if computed:
        layers = ", ".join(dict.fromkeys(computed[:_NAMED])) + (", ..." if len(computed) > _NAMED else "")
        raise ConfigError(
            f"method: the weights of {layers} are computed from other parameters (weight_norm or a "
            "parametrisation), which adversarial weight perturbation has no step for; build the network "
            "without, or take a method without awp"
        )
    if not found:
        raise ConfigError(
            "method: the network trains no weights of convolutions, linear layers or attention, which are "
            "what adversarial weight perturbation moves; take a method without awp"
        )
    return list(found.values())


@contextmanager
def moved(weights: Sequence[nn.Parameter], directions: Sequence[Tensor], gamma: float) -> Iterator[None]:
    """Every w at w + gamma ||w|| d / ||d||, and at its exact former value afterwards. Zero directions move
    nothing.
    """
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
