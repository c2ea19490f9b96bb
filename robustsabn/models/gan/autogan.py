"""The generator that AutoGAN's search found for 32x32, with class-conditional norms."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from robustsabn.layers.affine import Init
from robustsabn.models.gan.convolutions import upsampled_conv
from robustsabn.models.gan.initialisation import initialise
from robustsabn.models.gan.inputs import check_latents
from robustsabn.models.gan.norms import MakeNorm, norms
from robustsabn.models.gan.sngan import BOTTOM
from robustsabn.routing import Router

__all__ = ["AutoGANGenerator", "Cell"]


class Cell(nn.Module):
    """h = conv1(up(relu(norm1(x)))) + sum of resized skips; out = conv2(relu(norm2(h))) + shortcut(up(x)).

    Returns out and h: the skip for later cells is h, which includes the skips of earlier cells. The published
    code gets this by adding in place to the tensor it returns. Gong et al. 2019, "AutoGAN"."""

    def __init__(self, width: int, norm: MakeNorm, mode: str, skips: int, *, shortcut: bool) -> None:
        super().__init__()
        self.mode = mode
        self.norm1 = norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut: nn.Module | None = nn.Conv2d(width, width, 1) if shortcut else None
        self.skips = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(skips))

    def forward(self, x: Tensor, *earlier: Tensor) -> tuple[Tensor, Tensor]:
        h = relu(self.norm1(x))
        if self.mode == "nearest":
            h = upsampled_conv(h, self.conv1)
        else:
            h = self.conv1(interpolate(h, scale_factor=2, mode=self.mode))
        # 1x1 convolutions before interpolation, not after: weights of an interpolation sum to 1
        for skip, tensor in zip(self.skips, earlier, strict=True):
            h = h + interpolate(skip(tensor), size=h.shape[2:], mode=self.mode)
        out = self.conv2(relu(self.norm2(h)))
        if self.shortcut is not None:
            out = out + interpolate(self.shortcut(x), scale_factor=2, mode=self.mode)
        return out, h


class AutoGANGenerator(nn.Module):
    """Linear layer to 4x4, three cells that double the size, norm, ReLU, 3x3 convolution, tanh.

    Latents z (N, latent_dim), standard normal, to images (N, image_channels, 32, 32) in [-1, 1]. The class of
    an image is its route. The discriminator is that of SNGAN."""

    def __init__(
        self,
        num_classes: int,
        norm: str = "sabn",
        *,
        width: int = 256,
        latent_dim: int = 128,
        image_channels: int = 3,
        init: str = "xavier_uniform",
        affine_init: Init = "paper",
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        make = norms(norm, Router(num_classes), affine_init)
        self.linear = nn.Linear(latent_dim, width * BOTTOM**2)
        self.cell1 = Cell(width, make, "nearest", 0, shortcut=True)
        self.cell2 = Cell(width, make, "bilinear", 1, shortcut=True)
        self.cell3 = Cell(width, make, "nearest", 2, shortcut=False)
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, image_channels, 3, padding=1)
        initialise(self, init, (nn.Conv2d,))
        if affine_init == "paper":
            nn.init.normal_(self.norm.weight, 1.0, 0.02)

    def forward(self, z: Tensor) -> Tensor:
        """Images of the selected classes."""
        check_latents(z, self.latent_dim)
        h, skip1 = self.cell1(self.linear(z).view(len(z), -1, BOTTOM, BOTTOM))
        h, skip2 = self.cell2(h, skip1)
        h, _ = self.cell3(h, skip1, skip2)
        return torch.tanh(self.conv(relu(self.norm(h))))
