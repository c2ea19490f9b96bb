"""Temporary perturbations of the weights, which are restored exactly."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from robustsabn.errors import ConfigError

__all__ = ["layer_weights", "moved"]

_NAMED = 5


def layer_weights(model: nn.Module) -> list[nn.Parameter]:
    """Trained weights of convolutions, linear layers and attention, without biases, norms and embeddings.

    Shared weights appear once. Raises ConfigError if there are none, or if one is computed from other
    parameters (weight_norm, parametrisations), because gamma is relative to the weights themselves.
    """
    weights_by_id: dict[int, nn.Parameter] = {}
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
                weights_by_id.setdefault(id(weight), weight)
    if computed:
        layers = ", ".join(dict.fromkeys(computed[:_NAMED])) + (", ..." if len(computed) > _NAMED else "")
        raise ConfigError(
            f"method: the weights of {layers} are computed from other parameters (weight_norm or a "
            "parametrisation), which adversarial weight perturbation does not support; build the network "
            "without it, or choose a method without awp"
        )
    if not weights_by_id:
        raise ConfigError(
            "method: the network trains no weights of convolutions, linear layers or attention, which are "
            "what adversarial weight perturbation changes; choose a method without awp"
        )
    return list(weights_by_id.values())


@contextmanager
def moved(weights: Sequence[nn.Parameter], directions: Sequence[Tensor], gamma: float) -> Iterator[None]:
    """Move every weight to w + gamma ||w|| d / ||d|| inside the block, and restore it exactly.

    Zero directions change nothing.
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
