"""Checks of the inputs of generators and discriminators."""

from torch import Tensor

from robustsabn.arguments import a_tensor
from robustsabn.errors import InputError

__all__ = ["check_images", "check_latents"]


def check_latents(z: Tensor, latent_dim: int) -> None:
    """Raise InputError unless z is (N, latent_dim)."""
    if a_tensor("z", z, InputError).ndim != 2 or z.shape[1] != latent_dim:
        raise InputError(
            f"latents of shape {tuple(z.shape)}; this generator takes z (N, {latent_dim}), drawn from N(0, 1)"
        )


def check_images(x: Tensor, channels: int, least: int) -> None:
    """Raise InputError unless x is (N, channels, H, W) with H and W of at least `least`."""
    if a_tensor("x", x, InputError).ndim != 4 or x.shape[1] != channels or min(x.shape[2:]) < least:
        raise InputError(
            f"images of shape {tuple(x.shape)}; this discriminator takes (N, {channels}, H, W) in [-1, 1], "
            f"of at least {least}x{least}"
        )
