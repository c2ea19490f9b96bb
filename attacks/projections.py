"""Euclidean projections of perturbed images onto the intersection of a norm ball and the image box."""

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = [
    "NORMS",
    "Norm",
    "Radius",
    "greater",
    "norm_of",
    "project_l1",
    "project_l2",
    "project_linf",
    "radius_like",
    "sample_norm",
]

Norm = Literal["Linf", "L2", "L1"]
NORMS: tuple[Norm, ...] = get_args(Norm)


def norm_of(value: object) -> Norm | None:
    """The norm that `value` names: "Linf" or "linf", "inf" or infinity, and so on; None if it names none."""
    text = value if isinstance(value, str) else f"L{value}" if isinstance(value, (int, float)) else ""
    return next((norm for norm in NORMS if norm.lower() in (text.lower(), f"l{text.lower()}")), None)


Radius = float | Tensor

_HALVINGS = 24


def radius_like(eps: Radius, x: Tensor) -> Tensor:
    """The radius, one number or one per sample (N,), as a tensor that broadcasts over `x` (N, ...)."""
    if isinstance(eps, Tensor) and eps.ndim:
        return eps.to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))
    return x.new_full((), float(eps))  # as_tensor would copy from the host and wait


def sample_norm(delta: Tensor, order: float) -> Tensor:
    """Norm of each sample of `delta` (N, ...), shaped (N, 1, ..., 1)."""
    norm: Tensor = torch.linalg.vector_norm(delta, order, dim=tuple(range(1, delta.ndim)), keepdim=True)
    return norm


def project_linf(x_adv: Tensor, x: Tensor, eps: Radius, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Clip `x_adv` (N, ...) to [x - eps, x + eps], then to the box."""
    radius = radius_like(eps, x)
    return torch.clamp(torch.clamp(x_adv, x - radius, x + radius), *bounds)


def project_l2(x_adv: Tensor, x: Tensor, eps: Radius, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Scale `x_adv - x` to at most length eps, then clip to the box, which can only shorten it.

    This is the usual order, ball first and box last. The result lies in both sets; it is not the exact
    Euclidean projection onto their intersection.
    """
    delta = x_adv - x
    norm = sample_norm(delta, 2).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.clamp(x + delta * torch.clamp(radius_like(eps, x) / norm, max=1.0), *bounds)


def project_l1(x_adv: Tensor, x: Tensor, eps: Radius, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Exact Euclidean projection onto the L1 ball of radius eps intersected with the box.

    With d = x_adv - x and room_j the distance from x_j to the side of the box that d_j points at, the result
    is x + sign(d_j) min(room_j, max(|d_j| - lam, 0)) for the smallest lam >= 0 with L1 norm <= eps (Croce and
    Hein, "Mind the box: l1-APGD", ICML 2021, proposition 2.1)."""
    low, high = bounds
    delta = (x_adv - x).flatten(1)
    flat, size = x.flatten(1), delta.abs()
    room = torch.lerp(flat - low, high - flat, greater(delta, delta.new_zeros(()))).clamp_min_(0)
    lam = _threshold(size, room, radius_like(eps, x).expand(len(x), *[1] * (x.ndim - 1)).flatten())
    kept = torch.minimum(room, (size - lam[:, None]).clamp_min_(0))
    return torch.clamp(x + torch.copysign(kept, delta).view_as(x), low, high)


def greater(a: Tensor, b: Tensor) -> Tensor:
    """1.0 where a > b, else 0.0; multiplying by it is much faster on a CPU than `torch.where`."""
    return torch.gt(a, b, out=torch.empty_like(a, requires_grad=False))


def _threshold(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """Smallest lam >= 0 (N,) with sum_j min(room_j, max(size_j - lam, 0)) <= radius (N,); (N, D).

    Bisection to the precision of the dtype, then one Newton step on the remaining linear piece. The number of
    rounds is fixed, since a test for fewer would wait for the device.
    """
    kept = torch.empty_like(size, requires_grad=False)

    def excess(lam: Tensor) -> Tensor:
        torch.sub(size, lam[:, None], out=kept).clamp_min_(0)
        return torch.minimum(kept, room, out=kept).sum(1) - radius

    low, high = torch.zeros_like(radius), size.amax(1)
    outside = excess(low) > 0
    for _ in range(_HALVINGS * (2 if size.dtype == torch.float64 else 1)):
        middle = (low + high) / 2
        over = excess(middle) > 0
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    remaining = excess(high)
    moving = greater(kept, kept.new_zeros(())).mul_(greater(room, kept)).sum(1)
    lam = torch.maximum(low, torch.minimum(high, high + remaining / moving.clamp_min(1)))
    return torch.where(outside, lam, 0.0)
