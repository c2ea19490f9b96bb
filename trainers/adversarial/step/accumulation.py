"""Gradients of a batch taken part by part, where that changes nothing but the memory needed."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.errors import ConfigError
from robustsabn.layers import RoutedBatchNorm
from robustsabn.trainers.adversarial.config import TrainConfig

__all__ = ["check_accumulation", "parts"]


def check_accumulation(config: TrainConfig, model: nn.Module, share: slice) -> None:
    """ConfigError where parts of a process's `share` would make another run than the whole."""
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
            f"accumulate: {count} would make another method of {type(config.method).__name__}, which takes "
            "more than one gradient of a batch in a step; use accumulate: 1, a smaller batch_size or more "
            "processes"
        )
    for name, module in model.named_modules():
        if isinstance(module, (_BatchNorm, RoutedBatchNorm)):
            raise ConfigError(
                f"accumulate: {name} is batch normalisation, which would take the statistics of each of the "
                f"{count} parts; use accumulate: 1, or a network with layer or group norms"
            )


def parts(share: slice, count: int) -> Iterator[tuple[slice, slice]]:
    """The `count` equal parts of a process's `share`: where each lies in the share, and in the whole
    batch.
    """
    size = (share.stop - share.start) // count
    for start in range(0, size * count, size):
        yield slice(start, start + size), slice(share.start + start, share.start + start + size)
