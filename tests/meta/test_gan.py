"""One step of a GAN on a device without values: both networks, all losses, augmentation, updates, average."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from robustsabn.trainers.gan.config import DiffAugment, GanConfig
from robustsabn.trainers.gan.networks import build_pair
from robustsabn.trainers.gan.standing import estimate_statistics
from robustsabn.trainers.gan.step import GanStep
from robustsabn.trainers.loop.averages import Ema
from robustsabn.trainers.loop.updates import Update, build_optimizer
from robustsabn.trainers.processes.distributed import Network
from tests.helpers.device import META, no_copies

N, CLASSES = 8, 3
TINY = {"width": 4, "d_width": 4, "latent_dim": 4}


def draw(size: int, purpose: str, step: int, make: Callable[[int, torch.Generator], Tensor]) -> Tensor:
    """Shape and dtype of what a run draws: there are no generators on the device meta."""
    return torch.empty_like(make(size, torch.Generator()), device=META)


def steps_of(acc: Accelerator, image: tuple[int, int, int], **options: Any) -> GanStep:
    config = GanConfig(batch_size=N, data="digits", **options)
    pair = build_pair(config, CLASSES, image)
    networks = {name: Network(network.to(META), network) for name, network in pair._asdict().items()}
    run: Any = SimpleNamespace(config=config, accelerator=acc, draw=draw)
    bench = GanStep(run, networks, pair.latent_dim, torch.empty(CLASSES, dtype=torch.long, device=META))
    updates = {
        name: Update(
            acc, build_optimizer(network.raw, config.generator), config.generator, config.schedule, networks
        )
        for name, network in networks.items()
    }
    average = Ema(pair.generator, 0.99, "averaged")
    x, y = torch.empty(N, *image, device=META), torch.empty(N, dtype=torch.long, device=META)
    with no_copies():
        assert all(value.is_meta for value in bench.discriminator_loss(0, 2 * x - 1, y).values())
        assert all(p.grad is not None for p in pair.discriminator.parameters())
        updates["discriminator"](0, 10)
        bench.generator_loss(0)
        assert all(p.grad is not None for p in pair.generator.parameters())
        assert all(p.grad is None for p in pair.discriminator.parameters())
        updates["generator"](0, 10)
        average.update(0)
    return bench


@pytest.mark.parametrize(
    ("loss", "norm"),
    [("hinge", norm) for norm in ("bn", "ccbn", "sabn", "ccin", "sain")]
    + [("non-saturating", "sabn"), ("wasserstein-gp", "ccbn"), ("wasserstein-gp", "sabn")],
)
def test_a_step_of_a_gan(loss: Any, norm: Any, meta_accelerator: Accelerator) -> None:
    steps_of(meta_accelerator, (1, 8, 8), model="digits", model_options=TINY, loss=loss, norm=norm)


@pytest.mark.parametrize("model", ["sngan-32", "biggan-32"])
def test_a_step_of_larger_networks(model: str, meta_accelerator: Accelerator) -> None:
    options = {"width": 8, "d_width": 8}
    steps_of(meta_accelerator, (3, 32, 32), model=model, model_options=options)


def test_augmented_images(meta_accelerator: Accelerator) -> None:
    augment = DiffAugment(colour=True, translation=0.125, cutout=0.5)
    steps_of(meta_accelerator, (1, 8, 8), model="digits", model_options=TINY, augment=augment)


def test_standing_statistics(meta_accelerator: Accelerator) -> None:
    bench = steps_of(meta_accelerator, (1, 8, 8), model="digits", model_options=TINY)
    with no_copies():
        estimate_statistics(bench, 0, 2)
