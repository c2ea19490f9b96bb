"""One step of a GAN: updates of the discriminator, then one of the generator."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustsabn.routing import route
from robustsabn.trainers.gan.augment import DRAWS, augmented
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.gan.losses import LOSSES, gradient_penalty
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.updates import without_gradients
from robustsabn.trainers.processes.distributed import Network

__all__ = ["GanStep"]


class GanStep:
    """The losses and gradients of both networks; all randomness depends only on (seed, step).

    `present` (K,) are the classes that have training images.
    """

    def __init__(
        self, run: Run[GanConfig], networks: Mapping[str, Network], latent_dim: int, present: Tensor
    ) -> None:
        self.run, self.config, self.latent_dim = run, run.config, latent_dim
        self.generator, self.discriminator = networks["generator"], networks["discriminator"]
        self.present = present.to(run.accelerator.device)
        self.g_batch_size = self.config.g_batch_size or self.config.batch_size
        self.loss = LOSSES[self.config.loss]

    def discriminator_loss(self, at: int, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Losses and gradients of the discriminator's update number `at`.

        x are real images (n, C, H, W) in [-1, 1] of classes y (n,). Real and generated images go through the
        discriminator in one batch.
        """
        penalised, size = self.config.loss == "wasserstein-gp", self.config.batch_size
        with torch.no_grad():
            fake, classes = self.generate(at, "D", size, y if penalised else None)
        x, fake = self._augmented(x, at, "real", size), self._augmented(fake, at, "fake", size)
        parts, labels = [x, fake], [y, classes]
        if penalised:
            share = self.run.draw(size, "between", at, _uniform)[:, :1, None, None]
            parts.append(torch.lerp(fake, x, share).requires_grad_())
            labels.append(y)
        scores = self._scores(self.discriminator.wrapped, torch.cat(parts), torch.cat(labels))
        scores = scores.view(len(parts), len(x))
        loss = self.loss.discriminator(scores[0], scores[1])
        logged = {"real_score": scores[0].mean(), "fake_score": scores[1].mean()}
        logged["score_spread"] = scores[:2].detach().std()
        if penalised:
            logged["gradient_penalty"] = gradient_penalty(scores[2], parts[2])
            loss = loss + self.config.gradient_penalty * logged["gradient_penalty"]
        self.run.accelerator.backward(loss)
        return {"discriminator_loss": loss, **logged}

    def generator_loss(self, at: int) -> Tensor:
        """The loss of the generator's update number `at`, after its backward pass.

        The discriminator gets no gradients.
        """
        with without_gradients(self.discriminator.raw.parameters()):
            fake, classes = self.generate(at, "G", self.g_batch_size)
            fake = self._augmented(fake, at, "generated", self.g_batch_size)
            loss = self.loss.generator(self._scores(self.discriminator.raw, fake, classes))
            self.run.accelerator.backward(loss)
        return loss

    def generate(
        self, at: int, purpose: str, size: int, classes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """This process's share of `size` generated images in [-1, 1], and their classes.

        The classes are random unless `classes` are given.
        """
        if classes is None:
            drawn = self.run.draw(size, f"{purpose} classes", at, self._places)
            classes = self.present[drawn]
        z = self.run.draw(size, f"{purpose} latents", at, self._normal)
        # without gradients, there is nothing to average over the processes
        network = self.generator.wrapped if torch.is_grad_enabled() else self.generator.raw
        with route(self.generator.raw, classes), self._autocast():
            return network(z).float(), classes

    def _places(self, n: int, source: torch.Generator) -> Tensor:
        return torch.randint(len(self.present), (n,), generator=source, device=source.device)

    def _normal(self, n: int, source: torch.Generator) -> Tensor:
        return torch.randn(n, self.latent_dim, generator=source, device=source.device)

    def _augmented(self, x: Tensor, at: int, purpose: str, size: int) -> Tensor:
        config = self.config.augment
        if not (config.translation or config.cutout or config.colour):
            return x
        return augmented(x, self.run.draw(size, f"augment {purpose}", at, _uniform), config)

    def _scores(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with route(self.discriminator.raw, y), self._autocast():
            scores: Tensor = network(x)
        return scores.float()

    def _autocast(self) -> torch.autocast:
        return self.run.accelerator.autocast()  # type: ignore[no-any-return]


def _uniform(n: int, source: torch.Generator) -> Tensor:
    return torch.rand(n, DRAWS, generator=source, device=source.device)
