"""The pairs of generator and discriminator that `build` knows by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from robustsabn.arguments import a_whole_number
from robustsabn.errors import ModelError
from robustsabn.models.gan.autogan import AutoGANGenerator
from robustsabn.models.gan.biggan import biggan32, biggan128
from robustsabn.models.gan.digits import digits_discriminator, digits_generator
from robustsabn.models.gan.discriminators import (
    biggan32_discriminator,
    biggan128_discriminator,
    sngan32_discriminator,
    sngan128_discriminator,
)
from robustsabn.models.gan.sngan import sngan32, sngan128
from robustsabn.text import nearest, quote

__all__ = ["build", "names"]


class Architecture(NamedTuple):
    """Builders of the two networks, and their default widths."""

    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]
    width: int
    d_width: int
    init: str


_ARCHITECTURES = {
    "autogan-32": Architecture(AutoGANGenerator, sngan32_discriminator, 256, 128, "xavier_uniform"),
    "biggan-32": Architecture(biggan32, biggan32_discriminator, 64, 64, "normal"),
    "biggan-128": Architecture(biggan128, biggan128_discriminator, 96, 96, "orthogonal"),
    "digits": Architecture(digits_generator, digits_discriminator, 32, 32, "xavier_uniform"),
    "sngan-32": Architecture(sngan32, sngan32_discriminator, 256, 128, "xavier_uniform"),
    "sngan-128": Architecture(sngan128, sngan128_discriminator, 64, 64, "xavier_uniform"),
}

MOST = 100_000
"""Channels of a network; more is a slip of the pen."""


def names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(_ARCHITECTURES)


def build(
    architecture: str,
    num_classes: int,
    norm: str = "sabn",
    *,
    width: int | None = None,
    d_width: int | None = None,
    latent_dim: int | None = None,
    image_channels: int | None = None,
    init: str | None = None,
    affine_init: str | None = None,
    hierarchical: bool | None = None,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Generator and discriminator of a class-conditional GAN, with random weights; the class is a route in
    both.

    `with route(generator, y): images = generator(z)`, z (N, generator.latent_dim), images (N, C, H, W) in
    [-1, 1]; `with route(discriminator, y): scores = discriminator(images)`, scores (N,).

    - architecture: one of `names()`; norm: bn, ccbn, sabn, ccin or sain.
    - width, d_width: channels of generator and discriminator.
    - init: xavier_uniform, normal (N(0, 0.02)) or orthogonal; affine_init: identity or paper.
    - hierarchical: whether BigGAN's norms get a part of the latent in addition to the class.
    - seed: the weights depend only on it, and torch's generators keep their state.

    None means as published. Raises ModelError for an unknown name or a size below 1.
    """
    if not isinstance(architecture, str) or architecture not in _ARCHITECTURES:
        raise ModelError(
            f"unknown GAN {quote(architecture)}{nearest(architecture, _ARCHITECTURES)}; "
            f"known: {', '.join(_ARCHITECTURES)}"
        )
    known = _ARCHITECTURES[architecture]
    sizes = {"width": width, "d_width": d_width, "latent_dim": latent_dim, "image_channels": image_channels}
    for name, size in {"num_classes": num_classes, **sizes}.items():
        if size is not None:
            a_whole_number(name, size, ModelError, most=MOST)
    if affine_init not in (None, "identity", "paper"):
        raise ModelError(f"affine_init={quote(affine_init)}; allowed: identity, paper")
    if hierarchical is not None and "biggan" not in architecture:
        raise ModelError(
            f"hierarchical={quote(hierarchical)} is an option of BigGAN; {architecture} has none"
        )
    given = {"image_channels": image_channels, "init": init or known.init}
    own = {"latent_dim": latent_dim, "affine_init": affine_init, "hierarchical": hierarchical}
    with _seeded(seed):
        generator = known.generator(num_classes, norm, width=width or known.width, **_given(given | own))
        discriminator = known.discriminator(num_classes, width=d_width or known.d_width, **_given(given))
    return generator, discriminator


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(a_whole_number("seed", seed, ModelError, least=0, most=2**63 - 1))
        yield
