"""The building blocks of NAS-Bench-201, with any norm."""

from collections.abc import Callable

from torch import Tensor, nn

from robustsabn.nas.costs import Reduction

__all__ = ["MakeNorm", "Zero", "average_pool", "normed_conv", "reduction_block"]

MakeNorm = Callable[[int], nn.Module]
"""From a number of channels to a norm layer."""


def normed_conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, norm: MakeNorm = nn.BatchNorm2d
) -> nn.Sequential:
    """ReLU, convolution without bias, norm; (N, in_channels, H, W) keeps its size if the stride is 1."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, norm(out_channels))


def average_pool() -> nn.AvgPool2d:
    """The mean of the 3x3 pixels around each one, as far as they are inside the image."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


class Zero(nn.Module):
    """0 of the shape of x; it stays in the graph, so that what feeds it has a gradient (of 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


class ResidualReduction(nn.Module):
    """conv_b(conv_a(x)) + shortcut(x), as in the benchmark: conv_a has stride 2, the shortcut pools.

    (N, in_channels, H, W) to (N, out_channels, H / 2, W / 2), rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: MakeNorm) -> None:
        super().__init__()
        self.conv_a = normed_conv(in_channels, out_channels, 3, 2, norm)
        self.conv_b = normed_conv(out_channels, out_channels, 3, 1, norm)
        self.shortcut = _pooled(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_b(self.conv_a(x)) + self.shortcut(x)
        return y


def reduction_block(
    in_channels: int, out_channels: int, reduction: Reduction, norm: MakeNorm = nn.BatchNorm2d
) -> nn.Module:
    """The block between two stages: halves height and width, rounded up.

    `pool` is the shortcut of the benchmark's block alone: 3x3 convolutions are then only in the cells.
    """
    if reduction == "pool":
        return _pooled(in_channels, out_channels)
    return ResidualReduction(in_channels, out_channels, norm)


def _pooled(in_channels: int, out_channels: int) -> nn.Sequential:
    pool = nn.AvgPool2d(2, ceil_mode=True)  # of odd sizes, too, as many pixels as a convolution of stride 2
    return nn.Sequential(pool, nn.Conv2d(in_channels, out_channels, 1, bias=False))
