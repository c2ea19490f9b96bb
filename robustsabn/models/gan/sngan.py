"""The generators of SNGAN with projection, for images of 32x32 and 128x128."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from robustsabn.layers.affine import Init
from robustsabn.models.gan.blocks import GeneratorBlock
from robustsabn.models.gan.initialisation import initialise
from robustsabn.models.gan.inputs import check_latents
from robustsabn.models.gan.norms import norms
from robustsabn.routing import Router

__all__ = ["BOTTOM", "SNGANGenerator", "sngan32", "sngan128"]

BOTTOM = 4
"""Height and width at which generators start."""


class SNGANGenerator(nn.Module):
    """Linear layer to 4x4, residual blocks that double the size, norm, ReLU, 3x3 convolution, tanh.

    Latents z (N, latent_dim), standard normal, to images (N, image_channels, S, S) in [-1, 1], S = 4 * 2**B
    for B blocks between the B + 1 `widths`. The class of an image is its route; the last norm has one affine
    for all classes. Miyato & Koyama 2018, "cGANs with Projection Discriminator"."""

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        norm: str = "sabn",
        *,
        latent_dim: int = 128,
        image_channels: int = 3,
        init: str = "xavier_uniform",
        affine_init: Init = "paper",
        drawn: tuple[type[nn.Module], ...] = (nn.Conv2d,),
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        make = norms(norm, Router(num_classes), affine_init)
        self.linear = nn.Linear(latent_dim, widths[0] * BOTTOM**2)
        self.blocks = nn.Sequential(*(GeneratorBlock(a, b, make) for a, b in pairwise(widths)))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.conv = nn.Conv2d(widths[-1], image_channels, 3, padding=1)
        initialise(self, init, drawn)
        if affine_init == "paper":
            nn.init.normal_(self.norm.weight, 1.0, 0.02)

    def forward(self, z: Tensor) -> Tensor:
        """Images of the selected classes."""
        check_latents(z, self.latent_dim)
        h = self.blocks(self.linear(z).view(len(z), -1, BOTTOM, BOTTOM))
        return torch.tanh(self.conv(relu(self.norm(h))))


def sngan32(num_classes: int, norm: str = "sabn", *, width: int = 256, **options: Any) -> SNGANGenerator:
    """The generator for 32x32: three blocks of `width` channels."""
    return SNGANGenerator((width,) * 4, num_classes, norm, **options)


def sngan128(num_classes: int, norm: str = "sabn", *, width: int = 64, **options: Any) -> SNGANGenerator:
    """The generator for 128x128: five blocks, from 8 to 1 times `width` channels."""
    return SNGANGenerator([width * k for k in (8, 8, 4, 4, 2, 1)], num_classes, norm, **options)
