"""Running statistics estimated again, for averaged weights that were never trained themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.layers import RoutedBatchNorm

__all__ = ["batch_norms", "cumulative"]


def batch_norms(model: nn.Module) -> list[_BatchNorm | RoutedBatchNorm]:
    """The batch norms of `model` that update running statistics, without frozen ones."""
    kinds = (_BatchNorm, RoutedBatchNorm)
    layers = [m for m in model.modules() if isinstance(m, kinds) and m.training]
    return [m for m in layers if m.num_batches_tracked is not None]


@contextmanager
def cumulative(model: nn.Module) -> Iterator[None]:
    """Inside the block, running statistics become the mean over its batches, weighted for blends.

    The statistics of routes that no batch uses stay unchanged.
    """
    layers = batch_norms(model)
    kept = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.zero_()
            layer.momentum = None  # torch: None means a cumulative average
            if isinstance(layer, RoutedBatchNorm):
                layer.shares = torch.zeros_like(layer.num_batches_tracked, dtype=torch.float32)
        yield
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
            if isinstance(layer, RoutedBatchNorm):
                layer.shares = None
