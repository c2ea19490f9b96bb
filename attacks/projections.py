"""Euclidean projections of perturbed images onto the intersection of a norm ball and the image box."""

import torch
from torch import Tensor

__all__ = ["Radius", "project_l1", "project_l2", "project_linf", "radius_like", "sample_norm"]

Radius = float | Tensor


def radius_like(eps: Radius, x: Tensor) -> Tensor:
    """A radius, one number or one per sample (N,), as a tensor that broadcasts over `x` (N, ...)."""
    if isinstance(eps, Tensor) and eps.ndim:
        return eps.to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1))
    return x.new_full((), float(eps))  # a fill, where as_tensor would copy from the host and wait


def sample_norm(delta: Tensor, order: float) -> Tensor:
    """Norm of each sample of `delta` (N, ...), shaped (N, 1, ..., 1)."""
    norm: Tensor = torch.linalg.vector_norm(delta, order, dim=tuple(range(1, delta.ndim)), keepdim=True)
    return norm


def project_linf(x_adv: Tensor, x: Tensor, eps: Radius, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Clip `x_adv` (N, ...) to [x - eps, x + eps], then to the box."""
    radius = radius_like(eps, x)
    return torch.clamp(torch.clamp(x_adv, x - radius, x + radius), *bounds)


def project_l2(x_adv: Tensor, x: Tensor, eps: Radius, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Scale `x_adv - x` to at most length eps, then clip to the box (which only shortens it).

    The usual projection of the field: ball first, box last. It lies in both sets; it is not their exact
    Euclidean projection.
    """
    delta = x_adv - x
    norm = sample_norm(delta, 2).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.clamp(x + delta * torch.clamp(radius_like(eps, x) / norm, max=1.0), *bounds)


def project_l1(x_adv: Tensor, x: Tensor, eps: Radius, bounds: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Exact Euclidean projection onto the L1 ball of radius eps intersected with the box.

    With d = x_adv - x and room_j the way from x_j to the box face that d_j points at, the result is
    x + sign(d_j) min(room_j, max(|d_j| - lam, 0)) for the smallest lam >= 0 with L1 norm <= eps
    (Croce and Hein, "Mind the box: l1-APGD", ICML 2021, proposition 2.1).
    """
    low, high = bounds
    delta = x_adv - x
    size = delta.abs()
    room = torch.where(delta > 0, high - x, x - low).clamp_min(0)
    lam = _threshold(size.flatten(1), torch.minimum(size, room).flatten(1), radius_like(eps, x))
    kept = torch.minimum(room, (size - lam.view(-1, *[1] * (x.ndim - 1))).clamp_min(0))
    return torch.clamp(x + torch.copysign(kept, delta), low, high)


def _threshold(size: Tensor, reach: Tensor, radius: Tensor) -> Tensor:
    """Smallest lam >= 0 (N,) with phi(lam) = sum_j clip(size_j - lam, 0, reach_j) <= radius; (N, D)."""
    floor = size - reach
    radius = radius.flatten()
    # phi is linear between consecutive knots; its slope falls by 1 at floor_j and rises by 1 at size_j
    knots, order = torch.cat([floor, size], 1).sort(1)
    slope = torch.where(order < size.shape[1], -1.0, 1.0).to(size.dtype).cumsum(1)
    total = reach.sum(1, keepdim=True)
    phi = total + torch.cumsum(slope[:, :-1] * knots.diff(dim=1), 1)
    last = (phi > radius.view(-1, 1)).sum(1, keepdim=True)
    left, right = knots.gather(1, last), knots.gather(1, (last + 1).clamp_max(knots.shape[1] - 1))
    # solve again on the segment found: sums over its members do not carry the cumulative rounding
    middle = (left + right) / 2
    moving = (floor < middle) & (size > middle)
    full = torch.where(floor >= middle, reach, 0).sum(1)
    lam = (torch.where(moving, size, 0).sum(1) + full - radius) / moving.sum(1).clamp_min(1)
    lam = torch.minimum(torch.maximum(lam, left[:, 0]), right[:, 0])
    return torch.where(total[:, 0] > radius, lam, torch.zeros_like(lam))
