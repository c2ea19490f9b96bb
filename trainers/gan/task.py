"""A class-conditional GAN, as a task for the training loop."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustsabn.data import load
from robustsabn.errors import ConfigError
from robustsabn.metrics import Reference
from robustsabn.trainers.checkpoints.state import check_images
from robustsabn.trainers.config import Augment
from robustsabn.trainers.gan.analysis import analysed
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.gan.evaluation import Evaluator, reference
from robustsabn.trainers.gan.labels import describe_labels, present_classes
from robustsabn.trainers.gan.networks import build_pair, try_pair
from robustsabn.trainers.gan.results import RESULTS, GanEvaluation
from robustsabn.trainers.gan.standing import estimate_statistics
from robustsabn.trainers.gan.step import GanStep
from robustsabn.trainers.loop.averages import Ema
from robustsabn.trainers.loop.batches import Batch, Batches
from robustsabn.trainers.loop.compiling import compile_network
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.task import Task
from robustsabn.trainers.loop.updates import build_optimizer
from robustsabn.trainers.processes.distributed import shared
from robustsabn.trainers.runs.content import check_content, content, used_sha256
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["GanTraining"]

NO_EXTRACTOR = (
    "no distances are measured, so the last weights count as the best; give extractor=inception:FILE, or "
    "extractor=path/to/file.py:FUNCTION, a network that returns features"
)


class GanTraining(Task[GanConfig, GanEvaluation]):
    """A generator and a discriminator, trained against each other."""

    config = GanConfig
    results = RESULTS
    following = ("sample", "RUN", "--out", "grid.png")
    remedy: ClassVar[str] = "lower generator.lr or discriminator.lr, set their clip, or train in fp32"

    def __init__(self, run: Run[GanConfig]) -> None:
        config, acc = run.config, run.accelerator
        self.run, self.options = run, config
        with acc.main_process_first():  # one process downloads for all
            self.data = load(config.data, validation=0, n=config.images, download=config.download)
        self.remarks = [describe_labels(self.data), *self.data.notes]
        self.reference: Reference | None = None
        self.content, shape = content(self.data), self.data.train.shape
        if run.resumed is not None:
            check_images(run.resumed.stored.state, run.folder.checkpoints)
            check_content(run.folder.path, run.resumed.stored, {"data": config.data}, self.data, self.content)
        pair = build_pair(config, len(self.data.classes), shape)
        try_pair(pair, shape, len(self.data.classes))
        for network in pair:
            if config.channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if config.compile:
                compile_network(network)
        chosen = {"generator": config.generator, "discriminator": config.discriminator}
        optimizers = {
            name: (build_optimizer(network, chosen[name]), chosen[name], config.schedule)
            for name, network in pair._asdict().items()
        }
        self.networks, self.updates = run.prepare(pair._asdict(), optimizers)
        self.generator = self.networks["generator"].raw
        self.batches = Batches(
            self.data.train,
            batch_size=config.batch_size,
            seed=config.seed,
            augment=Augment(flip=config.flip),
            device=acc.device,
            rank=acc.process_index,
            world=acc.num_processes,
        )
        _check_divides(config.g_batch_size, acc.num_processes)
        # whole steps, as close to one pass through the images as possible
        self.steps_per_epoch = max(1, round(self.batches.steps_per_epoch / config.d_steps))
        present = present_classes(self.data)
        shared(acc, self._open_reference)
        self.bench = GanStep(run, self.networks, pair.latent_dim, present)
        if config.ema is not None:
            self.averages = {"ema": Ema(self.generator, config.ema, config.ema_statistics)}

    def start(self, step: int, total: int, monitor: Monitor) -> None:
        self.total, per = total, self.options.d_steps
        self.stream: Iterator[Batch] = self.batches.run(step * per, total * per)
        self.evaluator = Evaluator(self.run, self.generator, self.data, self.reference, monitor)

    def step(self, step: int) -> dict[str, Tensor]:
        means = dict[str, Tensor]()
        for at in self._updates(step):
            x, y = next(self.stream)
            logged_d = self.bench.discriminator_loss(at, 2 * x - 1, y)
            logged_d |= _named("discriminator", self.updates["discriminator"](step, self.total))
            for name, value in logged_d.items():
                means[name] = means.get(name, 0) + value.detach() / self.options.d_steps
        loss = self.bench.generator_loss(step)
        logged = _named("generator", self.updates["generator"](step, self.total))
        return {"loss": loss.detach(), **means, **logged}

    def validate(self, step: int, kind: str, heading: str) -> GanEvaluation:
        self.evaluated = step
        if kind == "ema" and self.options.ema_statistics == "standing":
            estimate_statistics(self.bench, step, self.options.standing_batches)
        return self.evaluator.validate(step, kind, heading)

    def score(self, measured: GanEvaluation) -> list[float]:
        return [float(self.evaluated) if measured.distance is None else -measured.distance]

    def close(self, step: int, kind: str, heading: str) -> GanEvaluation:
        return self.evaluator.close(step, kind, heading)

    def analysed(self, count: int) -> Record:
        return analysed(self.bench, count)

    def facts(self) -> dict[str, Any]:
        shape = list(self.data.train.shape)
        return {
            "classes": list(self.data.classes),
            "present": present_classes(self.data).tolist(),
            "shape": shape,
            "content": self.content,
        }

    def data_sha256(self) -> dict[str, str]:
        return used_sha256(self.data)

    def notes(self) -> list[str]:
        return self.remarks

    def batch(self, step: int) -> dict[str, Tensor]:
        each = [self.batches.whole(at) for at in self._updates(step)]
        return {name: torch.cat([batch[name] for batch in each]) for name in each[0]}

    def _open_reference(self) -> None:
        """Prepare the real images for the metrics, on the main process, which measures for all."""
        self.reference = reference(self.options, self.data, self.run.accelerator.device)
        if self.reference is None:
            self.remarks.append(NO_EXTRACTOR)

    def _updates(self, step: int) -> range:
        """The numbers of the discriminator updates, and of their batches, in step `step`."""
        per = self.options.d_steps
        return range(step * per, step * per + per)


def _named(network: str, logged: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{network}_{name}": value for name, value in logged.items()}


def _check_divides(size: int | None, world: int) -> None:
    if size is not None and size % world:
        raise ConfigError(f"g_batch_size {size} does not divide by {world} processes; it counts all of them")


TASK = GanTraining
