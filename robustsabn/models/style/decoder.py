"""The decoder: an encoder's convolutions in reverse order."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

__all__ = ["build_decoder"]


def build_decoder(layout: Sequence[int]) -> nn.Sequential:
    """From features of an encoder to pictures (N, 3, H, W), which are not limited to [0, 1].

    `layout` has the output channels of the encoder's convolutions, 0 for a pooling layer. Each convolution is
    answered by one of 3 x 3 with reflection padding and ReLU, each pooling by nearest upsampling; the last
    convolution has no ReLU. Source: Huang and Belongie, arXiv 1703.06868, section 6.
    """
    widths = [3, *(width for width in layout if width)]
    layers, k = list[nn.Module](), len(widths) - 1
    for width in reversed(layout):
        if not width:
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            continue
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(widths[k], widths[k - 1], 3), nn.ReLU()]
        k -= 1
    return nn.Sequential(*layers[:-1])
