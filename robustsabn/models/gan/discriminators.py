"""Projection discriminators with spectral normalisation."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.parametrizations import spectral_norm

from robustsabn.layers import RoutedEmbedding
from robustsabn.models.gan.blocks import DiscriminatorBlock
from robustsabn.models.gan.initialisation import initialise
from robustsabn.models.gan.inputs import check_images

__all__ = ["Discriminator", "Stage"]


class Stage(NamedTuple):
    """One block of a discriminator."""

    width: int
    downsample: bool


class Discriminator(nn.Module):
    """Residual blocks, ReLU, sum over the pixels h (N, C); scores `<w + e_y, h>`, with e_y the row of the class in force.

    Images (N, image_channels, H, W) in [-1, 1] to scores (N,). Every weight is divided by its largest singular value.
    Route None leaves e_y out. Miyato & Koyama 2018, "cGANs with Projection Discriminator".
    `wide`: as many channels between the two convolutions of a block as behind it, else as before it.
    """

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
        for i, (width, downsample) in enumerate(stages):
            hidden = width if wide or i == 0 else channels
            self.blocks.append(
                DiscriminatorBlock(channels, width, hidden, downsample=downsample, first=i == 0)
            )
            channels = width
        self.linear = nn.Linear(channels, 1, bias=bias)
        self.embedding = RoutedEmbedding(num_classes, channels)
        initialise(self, init, drawn)
        # After the weights are drawn, as the singular vectors start from them. The parametrisation and not the old hook:
        # the hook's `weight` is no leaf after a forward, so deepcopy (an averaged copy) refuses it, and its buffers are
        # written in place between two forwards of one backward (DDP, gradient penalty).
        for layer in list(self.modules()):
            if isinstance(layer, (nn.Conv2d, nn.Linear, RoutedEmbedding)):
                spectral_norm(layer, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the images as images of the classes in force."""
        check_images(x, self.image_channels, self.smallest)
        h = relu(self.blocks(x)).sum((2, 3))
        projection: Tensor = (self.embedding(len(h)) * h).sum(1)
        return projection + self.linear(h).squeeze(1)
