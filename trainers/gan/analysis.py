"""What the classes of a generator do: the gradients that the discriminator gives each of them."""

import torch
from torch import Tensor

from robustsabn.analysis import RouteBatch, route_gradients
from robustsabn.analysis.batches import undisturbed
from robustsabn.routing import maybe_route
from robustsabn.trainers.gan.evaluation import SEED, balanced
from robustsabn.trainers.gan.step import GanStep
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.runs.analysis import analysis_record
from robustsabn.trainers.runs.metrics import Record

__all__ = ["analysed"]

MOST_CLASSES = 10


def analysed(step: GanStep, count: int) -> Record:
    """Gradients and affines of the generator's classes, at most 10 of them.

    One batch of `count` fixed latents with all these classes goes through the generator; the loss of a class
    is that of its own images, so that batch statistics are those of training.
    """
    generator, discriminator = step.generator.raw, step.discriminator.raw
    shown = balanced(step.present, min(MOST_CLASSES, len(step.present), count))
    labels = balanced(shown, count).to(step.present.device)
    source = torch.Generator().manual_seed(SEED)
    z = torch.randn(count, step.latent_dim, generator=source).to(labels.device)

    def loss_of(label: int) -> RouteBatch:
        def loss(images: Tensor, _: None) -> Tensor:
            chosen = labels == label
            with maybe_route(discriminator, labels[chosen]):
                scores: Tensor = discriminator(images[chosen])
            return step.loss.generator(scores)

        return RouteBatch(labels, z, None, loss, f"class {label}")

    with uncompiled(generator), uncompiled(discriminator), undisturbed(discriminator, "eval"):
        gradients = route_gradients(generator, routes=[loss_of(label) for label in shown.tolist()])
    return analysis_record(generator, gradients)
