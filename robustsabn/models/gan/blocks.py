"""The residual blocks of generators and discriminators."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from robustsabn.models.gan.convolutions import pooled_conv, upsampled_conv
from robustsabn.models.gan.norms import MakeNorm

__all__ = ["Attention", "DiscriminatorBlock", "GeneratorBlock"]


class GeneratorBlock(nn.Module):
    """conv2(relu(norm2(conv1(up(relu(norm1(x))))))) + shortcut(up(x)), with nearest upsampling by 2.

    (N, in_channels, H, W) to (N, out_channels, 2H, 2W). Miyato & Koyama 2018, "cGANs with Projection
    Discriminator"."""

    def __init__(self, in_channels: int, out_channels: int, norm: MakeNorm) -> None:
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = upsampled_conv(relu(self.norm1(x)), self.conv1)
        h = self.conv2(relu(self.norm2(h)))
        # a 1x1 convolution of copies gives copies
        out: Tensor = h + interpolate(self.shortcut(x), scale_factor=2)
        return out


class DiscriminatorBlock(nn.Module):
    """conv2(relu(conv1(relu(x)))) + shortcut(x), each pooled to half the size if `downsample`.

    The first block of a discriminator takes pixels and has no activation before `conv1`. The shortcut is a
    1x1 convolution if the shape changes. `hidden` is the number of channels between the convolutions."""

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int, *, downsample: bool, first: bool = False
    ) -> None:
        super().__init__()
        self.downsample, self.first = downsample, first
        self.conv1 = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, out_channels, 3, padding=1)
        changes = downsample or in_channels != out_channels
        self.shortcut: nn.Module = nn.Conv2d(in_channels, out_channels, 1) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.conv1(x if self.first else relu(x)))
        if not self.downsample:
            return self.conv2(h) + self.shortcut(x)  # type: ignore[no-any-return]
        # pooled before the 1x1 convolution, not after: the same means, of a quarter of the products
        return pooled_conv(h, self.conv2) + self.shortcut(avg_pool2d(x, 2))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """x + gamma * out(values softmax(keys^T queries)) over all positions; keys and values at half the
    resolution.

    gamma starts at 0. (N, channels, H, W), even H and W, to the same shape. Zhang et al. 2019,
    "Self-Attention GAN"."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, few, 1, bias=False)
        self.key = nn.Conv2d(channels, few, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)
        key = max_pool2d(self.key(x), 2).flatten(2)
        value = max_pool2d(self.value(x), 2).flatten(2)
        # not scaled_dot_product_attention: a gradient penalty differentiates twice, which its kernels do not
        weights = (query @ key).softmax(-1)
        seen = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return torch.addcmul(x, self.gamma, self.out(seen))
