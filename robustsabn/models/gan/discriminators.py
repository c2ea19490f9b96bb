"""Projection discriminators with spectral normalisation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.functional import relu

from robustsabn.layers import RoutedEmbedding
from robustsabn.models.gan.blocks import Attention, DiscriminatorBlock
from robustsabn.models.gan.initialisation import initialise
from robustsabn.models.gan.inputs import check_images
from robustsabn.models.gan.spectral import normalise_spectrally

__all__ = [
    "Discriminator",
    "Stage",
    "biggan32_discriminator",
    "biggan128_discriminator",
    "sngan32_discriminator",
    "sngan128_discriminator",
]


class Stage(NamedTuple):
    """One block of a discriminator."""

    width: int
    downsample: bool
    attention: bool = False


class Discriminator(nn.Module):
    """Residual blocks, ReLU, sum over the pixels h (N, C); scores `<w + e_y, h>`, with e_y the row of the
    class.

    Images (N, image_channels, H, W) in [-1, 1] to scores (N,). Every weight is divided by its largest
    singular value. Route None omits e_y. Miyato & Koyama 2018, "cGANs with Projection Discriminator". `wide`:
    between its two convolutions a block has as many channels as after it, otherwise as before it."""

    def __init__(
        self,
        stages: Sequence[Stage],
        num_classes: int,
        *,
        image_channels: int = 3,
        wide: bool = False,
        bias: bool = False,
        init: str = "xavier_uniform",
        drawn: tuple[type[nn.Module], ...] = (nn.Conv2d,),
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.smallest = 2 ** sum(stage.downsample for stage in stages)
        self.blocks, channels = nn.Sequential(), image_channels
        for i, (width, downsample, attention) in enumerate(stages):
            hidden = width if wide or i == 0 else channels
            self.blocks.append(
                DiscriminatorBlock(channels, width, hidden, downsample=downsample, first=i == 0)
            )
            if attention:
                self.blocks.append(Attention(width))
            channels = width
        self.linear = nn.Linear(channels, 1, bias=bias)
        self.embedding = RoutedEmbedding(num_classes, channels)
        initialise(self, init, drawn)
        normalise_spectrally(self, (nn.Conv2d, nn.Linear, RoutedEmbedding))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the images for the selected classes."""
        check_images(x, self.image_channels, self.smallest)
        h = relu(self.blocks(x)).sum((2, 3))
        projection: Tensor = (self.embedding(len(h)) * h).sum(1)
        scores: Tensor = projection + self.linear(h).squeeze(1)
        return scores


def sngan32_discriminator(num_classes: int, *, width: int = 128, **options: Any) -> Discriminator:
    """For 32x32: four blocks, of which two pool. Also that of AutoGAN."""
    return Discriminator([Stage(width, i < 2) for i in range(4)], num_classes, **options)


def sngan128_discriminator(num_classes: int, *, width: int = 64, **options: Any) -> Discriminator:
    """For 128x128: six blocks, from 1 to 8 times `width` channels."""
    stages = [Stage(width * k, True) for k in (1, 2, 4, 8, 8)]
    return Discriminator([*stages, Stage(width * 8, False)], num_classes, **options)


_BIGGAN: dict[str, Any] = {"wide": True, "bias": True, "drawn": (nn.Conv2d, nn.Linear, RoutedEmbedding)}


def biggan32_discriminator(num_classes: int, *, width: int = 64, **options: Any) -> Discriminator:
    """For 32x32: four blocks of 4 times `width` channels, of which two pool, no attention."""
    return Discriminator([Stage(4 * width, i < 2) for i in range(4)], num_classes, **_BIGGAN | options)


def biggan128_discriminator(num_classes: int, *, width: int = 96, **options: Any) -> Discriminator:
    """For 128x128: six blocks, from 1 to 16 times `width` channels, attention at 64x64."""
    stages = [Stage(width, True, attention=True), *(Stage(width * k, True) for k in (2, 4, 8, 16))]
    return Discriminator([*stages, Stage(width * 16, False)], num_classes, **_BIGGAN | options)
