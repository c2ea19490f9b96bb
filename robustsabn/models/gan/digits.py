"""A small generator and discriminator for grey digits of 8x8 pixels."""

from typing import Any

from torch import nn

from robustsabn.models.gan.discriminators import Discriminator, Stage
from robustsabn.models.gan.sngan import SNGANGenerator

__all__ = ["digits_discriminator", "digits_generator"]

_DEFAULTS: dict[str, Any] = {"image_channels": 1, "drawn": (nn.Conv2d, nn.Linear)}


def digits_generator(
    num_classes: int = 10, norm: str = "sabn", *, width: int = 32, latent_dim: int = 32, **options: Any
) -> SNGANGenerator:
    """One block of `width` channels, from 4x4 to 8x8."""
    settings: dict[str, Any] = {**_DEFAULTS, "affine_init": "identity", **options}
    return SNGANGenerator((width, width), num_classes, norm, latent_dim=latent_dim, **settings)


def digits_discriminator(num_classes: int = 10, *, width: int = 32, **options: Any) -> Discriminator:
    """Two blocks of `width` channels, the first of which pools."""
    settings: dict[str, Any] = {**_DEFAULTS, "bias": True, **options}
    return Discriminator((Stage(width, True), Stage(width, False)), num_classes, **settings)
