"""Shortest step from a point to a hyperplane without leaving the image box, per norm."""

import torch
from torch import Tensor

__all__ = ["step_to_hyperplane"]

_TINY = 1e-8
_ROUNDS = 24


def step_to_hyperplane(
    norm: str, t: Tensor, w: Tensor, b: Tensor, bounds: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Step d of least `norm` with w.(t + d) = b and t + d inside the box.

    Points t and normals w are (N, D), offsets b (N,); d is (N, D). Where the box does not reach the hyperplane,
    d goes to the corner nearest to it. Coordinates with w_j = 0 stay.
    Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
    ICML 2020, section 3 and appendix A.
    """
    low, high = bounds
    gap = (w * t).sum(1) - b
    # each coordinate may only move against the sign of gap * w_j
    slope = torch.where(gap[:, None] >= 0, w, -w)
    room = torch.where(slope > 0, t - low, high - t).clamp_min(0)
    size = w.abs()
    if norm == "L1":
        return _greedy(size, room, gap.abs()) * -slope.sign()
    if norm == "Linf":
        rate, knot, speed = size, room, (w != 0).to(w)
    else:
        speed = torch.where(size < _TINY, 0.0, size)
        rate, knot = speed * speed, room / size.clamp_min(_TINY)
    lam = _water_level(rate, knot, gap.abs())
    return torch.minimum(lam[:, None], knot) * speed * -slope.sign()


def _water_level(rate: Tensor, knot: Tensor, goal: Tensor) -> Tensor:
    """lam (N,) with sum_j rate_j min(lam, knot_j) = goal, infinite where the sum cannot reach it; (N, D).

    Newton's method on a concave, piecewise linear function: from below it never overshoots, and ends exactly.
    """
    lam = torch.zeros_like(goal)
    for _ in range(_ROUNDS):
        below = knot > lam[:, None]
        moving = torch.where(below, rate, 0.0).sum(1)
        filled = torch.where(below, 0.0, rate * knot).sum(1)
        new = torch.where(moving > 0, (goal - filled) / moving, torch.inf)
        new = torch.where(goal > 0, torch.maximum(new, lam), lam)
        if lam.is_cpu and torch.equal(new, lam):
            break
        lam = new
    return lam


def _greedy(size: Tensor, room: Tensor, goal: Tensor) -> Tensor:
    """Lengths of the moves when the steepest coordinates are used up first, (N, D)."""
    size = torch.where(size < _TINY, 0.0, size)
    order = size.argsort(dim=1, descending=True)
    gain = (size * room).gather(1, order)
    before = gain.cumsum(1) - gain
    left = (goal[:, None] - before).clamp_min(0)
    ordered = size.gather(1, order)
    part = torch.where(ordered > 0, left / ordered.clamp_min(_TINY), 0.0)
    return torch.zeros_like(room).scatter(1, order, torch.minimum(part, room.gather(1, order)))
