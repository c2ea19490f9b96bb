"""Generator and discriminator of a run: building, testing and loading them."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from robustsabn.conversion.convert import convert
from robustsabn.errors import ConfigError, ModelError
from robustsabn.layers import RoutedBatchNorm
from robustsabn.models import gan
from robustsabn.routing import route, routers_of, routes_of
from robustsabn.text import nearest, quote
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.loop.draws import derive
from robustsabn.user_code import OwnCode

__all__ = ["Pair", "build_pair", "try_pair"]

Shape = tuple[int, int, int]


class Pair(NamedTuple):
    """The two networks of a GAN; in both, the class of a sample is its route."""

    generator: nn.Module
    discriminator: nn.Module

    @property
    def latent_dim(self) -> int:
        """The dimension of the latent vectors."""
        size = getattr(self.generator, "latent_dim", None)
        if not isinstance(size, int):
            raise ModelError(
                f"a generator needs latent_dim, the dimension of its latent vectors; this has {quote(size)}"
            )
        return size


def build_pair(config: GanConfig, classes: int, shape: Shape) -> Pair:
    """The networks of a run for images of `shape` (C, H, W); new weights depend only on the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(config.seed, "model"))
        generator, discriminator = _made(config, classes, shape[0])
    pair = Pair(generator, discriminator)
    if config.sync_bn:
        pair = Pair(*(_synchronised(network) for network in pair))
    return pair


def _made(config: GanConfig, classes: int, channels: int) -> Sequence[nn.Module]:
    place = OwnCode.split(config.model)
    if place is None and config.model not in gan.names():
        allowed = f"{', '.join(gan.names())}, path/to/file.py:FUNCTION, package.module:FUNCTION"
        raise ConfigError(
            f"model: {quote(config.model)} is no GAN{nearest(config.model, gan.names())}; allowed: {allowed}"
        )
    try:
        if place is None:
            _check_options(config.model_options)
            options = {"image_channels": channels, **config.model_options}
            return gan.build(config.model, classes, config.norm, **options)
    except TypeError as error:
        raise ConfigError(f"model_options: {error}; see docs/gan.md for those of {config.model}") from None
    code = OwnCode(place[0], ModelError, "a GAN of your own is path/to/file.py:FUNCTION")
    with code.opened() as module:
        factory = code.attribute(module, place[1])
        made: object = code.run(
            lambda: factory(num_classes=classes, norm=config.norm, **config.model_options), config.model
        )
    if not isinstance(made, Sequence) or len(made) != 2 or not all(isinstance(n, nn.Module) for n in made):
        raise ModelError(f"{config.model} returned {quote(made)}; give a pair: generator, discriminator")
    return made


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option that no network has."""
    parameters = inspect.signature(gan.build).parameters.values()
    allowed = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    for name in options:
        if name not in allowed:
            raise ConfigError(
                f"model_options: {quote(name)} is unknown{nearest(name, allowed)}; "
                f"allowed: {', '.join(allowed)}"
            )


def _synchronised(network: nn.Module) -> nn.Module:
    """Synchronise all batch norms of `network` over the processes, also the plain ones.

    Names in its state dict stay the same.
    """
    routes = routes_of(network)
    if routes and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
        network = convert(network, norm="bn", routes=routes, sync=True)
    for layer in network.modules():
        if isinstance(layer, RoutedBatchNorm):
            layer.sync = True
    return network


@torch.no_grad()
def try_pair(pair: Pair, shape: Shape, classes: int) -> None:
    """Raise ConfigError or ModelError unless both networks fit images of `shape` (C, H, W)."""
    for name, network in pair._asdict().items():
        if not routers_of(network):
            raise ModelError(
                f"the {name} has no routed layers, so it ignores classes; build it with routed norms"
            )
        if len(routes_of(network)) != classes:
            raise ModelError(f"the {name} has {len(routes_of(network))} routes, the data {classes} classes")
    modes = {module: module.training for network in pair for module in network.modules()}
    y, z = torch.arange(2), torch.randn(2, pair.latent_dim, generator=torch.Generator().manual_seed(0))
    try:
        for network in pair:
            network.eval()
        with route(pair.generator, y):
            images = pair.generator(z)
        if images.shape[1:] != shape:
            raise ConfigError(
                f"the generator makes images (C, H, W) of {tuple(images.shape[1:])}, the data has {shape}; "
                "choose another model, or resize the images: imagefolder:PATH,size=N"
            )
        if not bool((images.abs() <= 1).all()):
            low, high = images.min(), images.max()
            raise ModelError(
                f"the generator makes images from {low:.3g} to {high:.3g}; they must be in [-1, 1]: "
                "end it with tanh"
            )
        with route(pair.discriminator, y):
            scores = pair.discriminator(images)
        if scores.shape != (2,):
            raise ModelError(
                f"the discriminator gives scores of shape {tuple(scores.shape)} for 2 images; give (N,)"
            )
    finally:
        for module, training in modes.items():
            module.training = training
