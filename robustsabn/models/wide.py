"""Wide residual networks, the usual large networks in adversarial training."""

import math

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.models.resnet import PreActBlock, ResNet, Statistics

__all__ = ["wide_resnet", "wrn_28_10", "wrn_34_10"]


def wide_resnet(
    depth: int,
    widen: int,
    num_classes: int,
    in_channels: int = 3,
    *,
    mean: Statistics = None,
    std: Statistics = None,
) -> ResNet:
    """WRN-depth-widen without dropout: (depth - 4) / 6 blocks of 16, 32 and 64 times `widen` channels.

    Weights are initialised from N(0, 2 / fan_out). Zagoruyko and Komodakis 2016, "Wide Residual Networks".
    Raises ModelError if depth is not 6n + 4.
    """
    blocks, remainder = divmod(depth - 4, 6)
    if remainder or blocks < 1:
        raise ModelError(f"depth is {depth}; that of a wide ResNet is 6n + 4: 10, 16, 22, 28, 34, …")
    widths = (16 * widen, 32 * widen, 64 * widen)
    model = ResNet(
        PreActBlock,
        (blocks,) * 3,
        widths,
        num_classes,
        in_channels,
        stem=16,
        final_norm=True,
        mean=mean,
        std=std,
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
    nn.init.zeros_(model.linear.bias)
    return model


def wrn_28_10(
    num_classes: int, in_channels: int = 3, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """WRN-28-10, 36.5 million parameters."""
    return wide_resnet(28, 10, num_classes, in_channels, mean=mean, std=std)


def wrn_34_10(
    num_classes: int, in_channels: int = 3, *, mean: Statistics = None, std: Statistics = None
) -> ResNet:
    """WRN-34-10, 46.2 million parameters."""
    return wide_resnet(34, 10, num_classes, in_channels, mean=mean, std=std)
