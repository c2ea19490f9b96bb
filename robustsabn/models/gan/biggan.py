"""The generators of BigGAN for 32x32 and 128x128: class and latent reach every block as one vector."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from robustsabn.errors import ModelError
from robustsabn.layers import RoutedEmbedding
from robustsabn.layers.affine import Init
from robustsabn.models.gan.blocks import Attention, GeneratorBlock
from robustsabn.models.gan.initialisation import initialise
from robustsabn.models.gan.inputs import check_latents
from robustsabn.models.gan.norms import norms
from robustsabn.models.gan.sngan import BOTTOM
from robustsabn.models.gan.spectral import normalise_spectrally
from robustsabn.routing import Condition, Router, route

__all__ = ["BigGANGenerator", "biggan32", "biggan128"]


class BigGANGenerator(nn.Module):
    """Linear layer to 4x4, residual blocks that double the size, norm, ReLU, 3x3 convolution, tanh.

    Latents z (N, latent_dim), standard normal, to images (N, image_channels, S, S) in [-1, 1], S = 4 * 2**B
    for B blocks between the B + 1 `widths`. All weights have spectral normalisation. The class of an image is
    its route. z has B + 1 chunks: the first goes into the linear layer, and the norms of block i are
    conditioned by the vector (e_y, z_i), with e_y a row of `embedding`. With `hierarchical=False`, and always
    with `bn`, the whole z goes into the linear layer, and the norms have tables of classes. `attention`:
    resolutions whose block is followed by self-attention. Brock et al. 2019, "Large Scale GAN Training"."""

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        norm: str = "sabn",
        *,
        latent_dim: int = 128,
        embedding_dim: int = 128,
        hierarchical: bool = True,
        attention: Sequence[int] = (),
        image_channels: int = 3,
        init: str = "orthogonal",
        affine_init: Init = "identity",
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        parts = len(widths) if hierarchical and norm != "bn" else 1
        if latent_dim % parts:
            raise ModelError(
                f"latent_dim is {latent_dim}; BigGAN splits z into {parts} chunks, so give a multiple of "
                f"{parts}"
            )
        self.parts, chunk = parts, latent_dim // parts
        self.linear = nn.Linear(chunk, widths[0] * BOTTOM**2)
        self.embedding = RoutedEmbedding(num_classes, embedding_dim) if parts > 1 else None
        router = Router(condition=embedding_dim + chunk) if parts > 1 else Router(num_classes)
        make = norms(norm, router, affine_init)
        self.blocks = nn.ModuleList()
        for i, (a, b) in enumerate(pairwise(widths)):
            self.blocks.append(GeneratorBlock(a, b, make))
            if BOTTOM * 2 ** (i + 1) in attention:
                self.blocks.append(Attention(b))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.conv = nn.Conv2d(widths[-1], image_channels, 3, padding=1)
        initialise(self, init, (nn.Conv2d, nn.Linear, RoutedEmbedding))
        normalise_spectrally(self, (nn.Conv2d, nn.Linear))  # of an embedding, it is said to hurt generators

    def forward(self, z: Tensor) -> Tensor:
        """Images of the selected classes."""
        check_latents(z, self.latent_dim)
        first, *chunks = z.chunk(self.parts, 1)
        conditions = self._conditions(len(z), chunks)
        h = self.linear(first).view(len(z), -1, BOTTOM, BOTTOM)
        for block in self.blocks:
            conditioned = conditions and isinstance(block, GeneratorBlock)
            with route(block, conditions.pop(0)) if conditioned else nullcontext():
                h = block(h)
        return torch.tanh(self.conv(relu(self.norm(h))))

    def _conditions(self, samples: int, chunks: Sequence[Tensor]) -> list[Condition]:
        """The vectors for the norms of each block: class (zeros for None) and a chunk of the latent."""
        if self.embedding is None:
            return []
        of_class = self.embedding(samples)
        return [Condition(torch.cat([of_class, chunk], 1)) for chunk in chunks]


def biggan32(num_classes: int, norm: str = "sabn", *, width: int = 64, **options: Any) -> BigGANGenerator:
    """The generator for 32x32: three blocks of 4 times `width` channels, no attention."""
    return BigGANGenerator((4 * width,) * 4, num_classes, norm, **options)


def biggan128(num_classes: int, norm: str = "sabn", *, width: int = 96, **options: Any) -> BigGANGenerator:
    """The generator for 128x128: five blocks, from 16 to 1 times `width` channels, attention at 64x64."""
    widths = [width * k for k in (16, 16, 8, 4, 2, 1)]
    settings: dict[str, Any] = {"latent_dim": 120, "attention": (64,)}
    return BigGANGenerator(widths, num_classes, norm, **settings | options)
