"""What is asked of a device, or given to it, without waiting for it."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["autocast_dtype", "holds", "vector"]


def holds(condition: Tensor, message: str) -> bool:
    """Whether the bool `condition` () is true. On CUDA and compiled it is taken for true, and the device raises if not.

    On the device meta, which has no values, nothing is checked.
    """
    if condition.is_cuda or condition.is_meta or torch.compiler.is_compiling():
        torch.ops.aten._assert_async.msg(condition, message)
        return True
    return bool(condition)


def vector(
    size: int,
    fill: float,
    entries: Mapping[int, float],
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A tensor (size,) of `fill` with the given `entries`. By fills: `torch.tensor` and `v[i] = 0.5` copy from the host."""
    made = torch.full((size,), fill, device=device, dtype=dtype)
    for index, value in entries.items():
        made.select(0, index).fill_(value)
    return made


def autocast_dtype(kind: str) -> torch.dtype | None:
    """What autocast computes in on devices of this kind, such as `cuda`; None where it is off, or there is none."""
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None
