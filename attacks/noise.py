"""Random perturbations inside a norm ball."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from robustsabn.attacks.projections import Radius, radius_like, sample_norm
from robustsabn.errors import InputError
from robustsabn.text import quote

__all__ = ["Start", "ball_noise"]

Start = Literal["uniform", "normal", "none"]


def ball_noise(norm: str, eps: Radius, x: Tensor, kind: Start, generator: torch.Generator | None) -> Tensor:
    """Perturbation shaped like `x` (N, ...) in the ball of radius `eps`; see `ThreatModel.noise`."""
    if kind not in get_args(Start):
        raise InputError(f"start is {quote(kind)}; allowed are {', '.join(get_args(Start))}")
    if kind == "none":
        return torch.zeros_like(x)
    place = x.device if generator is None else generator.device

    def gaussian() -> Tensor:
        return torch.randn(x.shape, generator=generator, device=place, dtype=x.dtype).to(x.device)

    def unit(shape: torch.Size) -> Tensor:
        return torch.rand(shape, generator=generator, device=place, dtype=x.dtype).to(x.device)

    radius, tiny = radius_like(eps, x), torch.finfo(x.dtype).tiny
    if kind == "normal":
        delta = 1e-3 * gaussian()
        if norm == "Linf":
            return torch.clamp(delta, -radius, radius)
        return delta * torch.clamp(
            radius / sample_norm(delta, 2 if norm == "L2" else 1).clamp_min(tiny), max=1.0
        )
    if norm == "Linf":
        return radius * (2 * unit(x.shape) - 1)
    if norm == "L2":
        delta = gaussian()
        shrink = radius_like(unit(x.shape[:1]) ** (1 / math.prod(x.shape[1:])), x)
        return radius * shrink * delta / sample_norm(delta, 2).clamp_min(tiny)
    # D of D + 1 normalised exponential draws are uniform in the simplex; random signs extend it to the ball
    signed = 2 * unit(x.shape) - 1
    spacing = -torch.log1p(-signed.abs().clamp_max(1 - torch.finfo(x.dtype).eps))
    spare = radius_like(-torch.log1p(-unit(x.shape[:1])), x)
    return radius * torch.copysign(spacing, signed) / (sample_norm(spacing, 1) + spare)
