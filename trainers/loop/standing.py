"""Running statistics re-estimated for weights that were never trained with: those of an average."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.layers import RoutedBatchNorm

__all__ = ["batch_norms", "cumulative"]


def batch_norms(model: nn.Module) -> list[_BatchNorm | RoutedBatchNorm]:
    """The batch norms of `model` that have running statistics and follow the batches: others are frozen."""
    kinds = (_BatchNorm, RoutedBatchNorm)
    found = [m for m in model.modules() if isinstance(m, kinds) and m.training]
    return [m for m in found if m.num_batches_tracked is not None]


@contextmanager
def cumulative(model: nn.Module) -> Iterator[None]:
    """Running statistics are the mean over the batches that come inside the block, weighted where routes are
    blended.

    Those of a route that none of these takes stay as they are.
    """
    layers = batch_norms(model)
    kept = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.zero_()
            layer.momentum = None  # torch's word for a cumulative average
            if isinstance(layer, RoutedBatchNorm):
                layer.shares = torch.zeros_like(layer.num_batches_tracked, dtype=torch.float32)
        yield
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
            if isinstance(layer, RoutedBatchNorm):
                layer.shares = None
