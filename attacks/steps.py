"""Steepest ascent steps of unit length, per norm."""

import math

import torch
from torch import Tensor

from robustsabn.attacks.projections import Radius, radius_like, sample_norm

__all__ = ["steepest"]


def steepest(
    norm: str, grad: Tensor, x_adv: Tensor | None, bounds: tuple[float, float], fraction: Radius
) -> Tensor:
    """Unit step along which a loss with gradient `grad` (N, ...) increases most; see `ThreatModel.ascent`."""
    if norm == "Linf":
        return grad.sign()
    if norm == "L2":
        tiny = torch.finfo(grad.dtype).tiny
        # divided by the largest entry first, since squares of small gradients underflow
        scaled = grad / sample_norm(grad, math.inf).clamp_min(tiny)
        return scaled / sample_norm(scaled, 2).clamp_min(tiny)
    if x_adv is not None:
        low, high = bounds
        grad = torch.where(((grad > 0) & (x_adv >= high)) | ((grad < 0) & (x_adv <= low)), 0.0, grad)
    size = grad.abs()
    least = radius_like(_quantile(size.flatten(1), fraction), grad)
    step = torch.ge(size, least, out=torch.empty_like(size)).mul_(grad.sign())
    return step / sample_norm(step, 1).clamp_min(1)


def _quantile(size: Tensor, fraction: Radius) -> Tensor:
    """Element number floor((1 - fraction) D) of each row of `size` (N, D) in rising order, (N,)."""
    count = size.shape[1]
    if isinstance(fraction, Tensor):
        rank = ((1 - fraction) * count).long().clamp(0, count - 1)
        return size.sort(1).values.gather(1, rank.to(size.device).view(-1, 1))[:, 0]
    return size.topk(count - min(max(int((1 - fraction) * count), 0), count - 1), 1).values[:, -1]
