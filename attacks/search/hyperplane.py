"""Shortest step from a point to a hyperplane inside the image box, per norm."""

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.attacks.projections import greater

__all__ = ["step_to_hyperplane"]

_TINY = 1e-8
_ROUNDS = 24


def step_to_hyperplane(
    norm: str, t: Tensor, w: Tensor, b: Tensor, bounds: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Step d of smallest `norm` with w.(t + d) = b and t + d inside the box.

    Points t are (..., N, D), normals w (N, D), offsets b (N,); d is shaped like t. If the hyperplane does not
    meet the box, d leads to the corner nearest to it. Coordinates with w_j = 0 do not move. Source: Croce and
    Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, section
    3 and appendix A."""
    low, high = bounds
    gap = (t * w).sum(-1) - b
    # each coordinate may only move against the sign of gap * w_j
    way = w.sign() * torch.where(gap >= 0, -1.0, 1.0).to(w)[..., None]
    middle = (low + high) / 2
    room = (t - middle).mul_(way).neg_().add_((high - low) / 2).clamp_min_(0)
    size, goal = w.abs(), gap.abs()
    if norm == "L1":
        return _greedy(size.expand_as(t), room, goal).mul_(way)
    if norm == "Linf":
        lam = _water_level(size, room, goal)
        return torch.minimum(lam[..., None], room, out=room).mul_(way)
    speed = F.threshold(size, _TINY, 0.0)
    knot = room.div_(size.clamp_min_(_TINY))
    lam = _water_level(speed * speed, knot, goal)
    return torch.minimum(lam[..., None], knot, out=knot).mul_(speed).mul_(way)


def _water_level(rate: Tensor, knot: Tensor, goal: Tensor) -> Tensor:
    """lam (..., N) with sum_j rate_j min(lam, knot_j) = goal, infinite where the sum cannot reach it.

    Rates (N, D), knots (..., N, D), goals (..., N). Newton's method on a concave, piecewise linear function,
    which never overshoots from below.
    """
    lam, done = (goal / rate.sum(1)).nan_to_num(0.0, torch.inf), goal <= 0
    part = torch.empty_like(knot)
    for turn in range(_ROUNDS):
        reached = torch.minimum(knot, lam[..., None], out=part).mul_(rate).sum(-1)
        moving = torch.gt(knot, lam[..., None], out=part).mul_(rate).sum(-1)
        step = torch.where(goal > reached, (goal - reached) / moving, 0.0)
        lam = torch.where(done, lam, lam + step)
        done |= step <= torch.finfo(lam.dtype).eps * lam
        if (lam.is_cpu or turn % 8 == 7) and bool(done.all()):
            break
    return torch.where(goal > 0, lam, 0.0)


def _greedy(size: Tensor, room: Tensor, goal: Tensor) -> Tensor:
    """How far each coordinate moves, (..., N, D): the steepest ones as far as they can, then the others."""
    size = F.threshold(size, _TINY, 0.0)
    order = size.argsort(dim=-1, descending=True)
    gain = (size * room).gather(-1, order)
    before = gain.cumsum(-1) - gain
    remaining = (goal[..., None] - before).clamp_min(0)
    ordered = size.gather(-1, order)
    part = remaining / ordered.clamp_min(_TINY) * greater(ordered, ordered.new_zeros(()))
    return torch.zeros_like(room).scatter(-1, order, torch.minimum(part, room.gather(-1, order)))
