"""Gradient accumulation over parts of a batch, where this saves memory without other effects."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.errors import ConfigError
from robustsabn.layers import RoutedBatchNorm
from robustsabn.trainers.adversarial.config import TrainConfig

__all__ = ["check_accumulation", "parts"]


def check_accumulation(config: TrainConfig, model: nn.Module, share: slice) -> None:
    """Raise ConfigError if splitting a process's `share` of the batch would change the training."""
    count = config.accumulate
    if count == 1:
        return
    size = share.stop - share.start
    if size % count:
        raise ConfigError(
            f"accumulate: a process has {size} images of each batch, not a multiple of {count} parts"
        )
    if config.method.whole_batch:
        raise ConfigError(
            f"accumulate: {count} would change the method {type(config.method).__name__}, which needs "
            "several gradients of a batch in a step; use accumulate: 1, a smaller batch_size or more "
            "processes"
        )
    for name, module in model.named_modules():
        if isinstance(module, (_BatchNorm, RoutedBatchNorm)):
            raise ConfigError(
                f"accumulate: {name} is batch normalisation, which would use the statistics of each of the "
                f"{count} parts; use accumulate: 1, or a network with layer or group norms"
            )


def parts(share: slice, count: int) -> Iterator[tuple[slice, slice]]:
    """Split a process's `share` into `count` equal parts.

    Each part is a slice of the share, and the same images as a slice of the whole batch.
    """
    size = (share.stop - share.start) // count
    for start in range(0, size * count, size):
        yield slice(start, start + size), slice(share.start + start, share.start + start + size)
