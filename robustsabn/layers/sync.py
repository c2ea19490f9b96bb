"""Statistics over all processes; each process can have its own number of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from robustsabn.layers.moments import Moments, wide

__all__ = ["is_distributed", "merge_moments", "sync_batch_norm_cuda"]


def is_distributed() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient of a sum that every process uses is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        g = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(g)
        return g


_all_reduce_sum: Callable[[Tensor], Tensor] = _AllReduceSum.apply


def merge_moments(moments: Moments) -> Moments:
    """Moments over all processes from those of each; differentiable, two collectives, no cancellation."""
    count, mean, var = moments
    total = _all_reduce_sum(torch.cat([count.unsqueeze(1), count.unsqueeze(1) * mean], 1))
    count_all = total[:, 0].detach()
    share = count_all.clamp(min=1).unsqueeze(1)
    mean_all = total[:, 1:] / share
    var_all = _all_reduce_sum(count.unsqueeze(1) * (var + (mean - mean_all) ** 2)) / share
    return count_all, mean_all, var_all


def sync_batch_norm_cuda(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Batch normalisation over all processes by torch's CUDA kernels; updates mean and var in place."""
    from torch.nn.modules._functions import SyncBatchNorm

    normalise: Callable[..., Tensor] = SyncBatchNorm.apply
    # torch exchanges statistics in float32, but those of an empty x in the dtype of x
    exact = x if x.numel() else x.to(wide(x.dtype))
    args = (exact, scale, shift, mean, var, eps, momentum, dist.group.WORLD, dist.get_world_size())
    return normalise(*args).to(x.dtype)
