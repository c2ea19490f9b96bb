"""Random numbers as pure functions of (seed, sample, attack, run, iteration, element).

The numbers of a sample therefore do not depend on its batch, its place there, other samples, or the device.
A counter is mixed by the SplitMix64 finaliser (Steele, Lea and Flood, OOPSLA 2014, figure 16), on int64
tensors, whose products wrap the same way on every device.
"""

import math

import torch
from torch import Tensor

__all__ = ["normal", "signs", "stream", "uniform"]

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)


def stream(seed: int, ids: Tensor, *counters: int | Tensor) -> Tensor:
    """One key per sample, int64 (N,), from `ids` int64 (N,) and counters, each an int or int64 (N,)."""
    key = _mix(ids + _mix(torch.full_like(ids, _wrap(seed))))
    for counter in counters:
        key = _mix(key * _GAMMA + counter)
    return key


def uniform(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniform draws in [0, 1), float32 (N, *shape), from the keys (N,); multiples of 2^-24."""
    return (_bits(keys, shape, 0) >> 40 & 0xFFFFFF).float() * 2.0**-24


def signs(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """+1 or -1 with equal chance, float32 (N, *shape)."""
    return (_bits(keys, shape, 0) >> 63).float() * 2 + 1


def normal(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws, float32 (N, *shape): Box and Muller's transform, taken in float64."""
    radius = (_bits(keys, shape, 0) >> 11 & (1 << 53) - 1).double().add_(1).mul_(2.0**-53)
    angle = (_bits(keys, shape, 1) >> 11 & (1 << 53) - 1).double().mul_(2.0**-53 * 2 * math.pi)
    return radius.log_().mul_(-2).sqrt_().mul_(angle.cos_()).float()


def _bits(keys: Tensor, shape: tuple[int, ...], lane: int) -> Tensor:
    """64 mixed bits for each element, int64 (N, *shape); lanes are independent."""
    count = math.prod(shape)
    element = torch.arange(lane * count + 1, (lane + 1) * count + 1, device=keys.device)
    return _mix(keys[:, None] + element * _GAMMA).view(-1, *shape)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return z >> by & (1 << 64 - by) - 1


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
