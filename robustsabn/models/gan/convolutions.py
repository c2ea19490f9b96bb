"""A 3x3 convolution and a change of resolution as one 4x4 convolution: 4/9 of the multiplications."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["pooled_conv", "upsampled_conv"]


def upsampled_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(upsample(x))` for nearest upsampling by 2, a 3x3 kernel and padding 1; (N, C, H, W) to (N, D, 2H,
    2W).

    Neighbours that are copies of one pixel get the sum of their weights, in a transposed convolution of
    stride 2."""
    kernel = _with_neighbour(conv.weight).flip(2, 3).transpose(0, 1)
    return F.conv_transpose2d(x, kernel, conv.bias, stride=2, padding=1)


def pooled_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`avg_pool2d(conv(x), 2)` for a 3x3 kernel with padding 1; (N, C, H, W) to (N, D, H // 2, W // 2)."""
    return F.conv2d(x, _with_neighbour(conv.weight) / 4, conv.bias, stride=2, padding=1)


def _with_neighbour(weight: Tensor) -> Tensor:
    """The kernel (…, 4, 4) that is the sum of a 3x3 kernel at its four places inside."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
