"""Work with a device that does not wait for it."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["autocast_dtype", "holds", "vector", "waits"]


def holds(condition: Tensor, message: str) -> bool:
    """Whether the bool tensor `condition` () is true.

    On CUDA and in compiled code the result is always True, and the device itself raises `message` if the
    condition is false. On the meta device, which has no values, nothing is checked."""
    if condition.is_cuda or condition.is_meta or torch.compiler.is_compiling():
        torch.ops.aten._assert_async.msg(condition, message)
        return True
    return bool(condition)


def waits(tensor: Tensor | None) -> bool:
    """Whether to read its values is to wait for a device."""
    return tensor is not None and not tensor.is_cpu


def vector(
    size: int,
    fill: float,
    entries: Mapping[int, float],
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A tensor (size,) of `fill` with `entries` at their indices.

    It only uses fills, since `torch.tensor` and `v[i] = 0.5` copy from the host.
    """
    made = torch.full((size,), fill, device=device, dtype=dtype)
    for index, value in entries.items():
        made.select(0, index).fill_(value)
    return made


def autocast_dtype(kind: str) -> torch.dtype | None:
    """The dtype of autocast on devices of this kind, such as "cuda"; None if it is off or not available."""
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None
