"""Weight-sharing architecture search, as a task for the training loop."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from robustsabn.data import ImageSet
from robustsabn.models.nas import Supernet
from robustsabn.nas import Cell
from robustsabn.trainers.checkpoints.state import check_images
from robustsabn.trainers.config import Constant, Optim, Schedule
from robustsabn.trainers.loop.batches import Batch, Batches
from robustsabn.trainers.loop.draws import derive
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.task import Task
from robustsabn.trainers.loop.updates import build_optimizer
from robustsabn.trainers.nas.analysis import analysed
from robustsabn.trainers.nas.choosing import Trials, best_of, candidates
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.division import divide
from robustsabn.trainers.nas.evaluation import Evaluator
from robustsabn.trainers.nas.networks import Accuracies, build_supernet
from robustsabn.trainers.nas.results import RESULTS, NasEvaluation
from robustsabn.trainers.nas.scoring import NO_TABLE, Judge
from robustsabn.trainers.nas.search.step import SearchStep
from robustsabn.trainers.runs.content import check_content, content, used_sha256
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["ArchitectureSearch"]


class ArchitectureSearch(Task[NasConfig, NasEvaluation]):
    """A supernet and its architecture parameters, trained in turn on different images."""

    config = NasConfig
    results = RESULTS
    remedy: ClassVar[str] = "lower weights.lr or architecture.lr, or train in fp32"

    def __init__(self, run: Run[NasConfig]) -> None:
        config, acc = run.config, run.accelerator
        self.run, self.options = run, config
        self.judge = None if config.table is None else Judge(config)
        with acc.main_process_first():  # one process downloads for all
            self.division = divide(config)
        data = self.division.data
        self.content, shape = content(data), data.train.shape
        if run.resumed is not None:
            check_images(run.resumed.stored.state, run.folder.checkpoints)
            check_content(run.folder.path, run.resumed.stored, {"data": config.data}, data, self.content)
        self.supernet = build_supernet(
            config,
            len(data.classes),
            shape[0],
            seed=derive(config.seed, "model"),
            sync=config.sync_bn and acc.num_processes > 1,
        )
        self.networks, self.updates = run.prepare(
            {"supernet": self.supernet}, _optimizers(config, self.supernet)
        )
        self.batches = self._batches(self.division.weights, "order")
        self.others = self._batches(self.division.architecture, "architecture")
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.bench = SearchStep(
            run, self.supernet, config.search, routes=config.routes, faithful=config.faithful
        )
        self.accuracies = Accuracies(run, self.bench)
        total = config.steps or config.epochs * self.steps_per_epoch
        self.trials = (
            Trials(config, self.supernet, self.steps_per_epoch, total) if config.search == "random" else None
        )
        few = min(config.validation.images, len(self.division.architecture))
        self.chosen_by = self.division.architecture.sample(few)

    def start(self, step: int, total: int, monitor: Monitor) -> None:
        planned = self.options.schedule_epochs
        self.planned = total if planned is None else max(total, planned * self.steps_per_epoch)
        self.stream: Iterator[Batch] = self.batches.run(step, total)
        self.other: Iterator[Batch] = self.others.run(step, total)
        self.evaluator = Evaluator(
            self.run, self.division, self.judge, monitor, self.steps_per_epoch, self.accuracies
        )

    def step(self, step: int) -> dict[str, Tensor]:
        batch, update = self._formatted(next(self.stream)), self.updates["weights"]
        if self.trials is not None:
            return self._trial_step(step, batch, self.trials)
        loss = self.bench.weights_loss(step, self.planned, batch)
        logged = {"loss": loss, **update(step, self.planned)}
        if "architecture" in self.updates:
            other = self._formatted(next(self.other))
            loss = self.bench.architecture_loss(step, self.planned, other, batch, update)
            logged |= {"architecture_loss": loss, **self.updates["architecture"](step, self.planned)}
        return logged

    def validate(self, step: int, kind: str, heading: str) -> NasEvaluation:
        self.evaluated = step
        return self.evaluator.validate(step, kind, heading, self._found(), self._mixture())

    def score(self, measured: NasEvaluation) -> list[float]:
        return [float(self.evaluated)]  # the last cell counts: no images are left to choose one by

    def close(self, step: int, kind: str, heading: str) -> NasEvaluation:
        return self.evaluator.close(step, kind, heading, self._found(), self._mixture())

    def analysed(self, count: int) -> Record:
        return analysed(self.bench, self.division.held_out, count)

    @classmethod
    def read_closing(
        cls, records: Sequence[Record], kind: str, before: NasConfig, now: NasConfig
    ) -> NasEvaluation | None:
        measured = super().read_closing(records, kind, before, now)
        return None if measured is None or measured.asked != now.asked else measured

    def facts(self) -> dict[str, Any]:
        shape = list(self.division.data.train.shape)
        return {"classes": list(self.division.data.classes), "shape": shape, "content": self.content}

    def data_sha256(self) -> dict[str, str]:
        return used_sha256(self.division.data)

    def notes(self) -> list[str]:
        return [self.division.note, *self.division.data.notes, *([NO_TABLE] if self.judge is None else [])]

    def carried(self) -> dict[str, Tensor]:
        return {} if self.trials is None else self.trials.carried()

    def restore(self, carried: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        if self.trials is not None:
            self.trials.restore(carried, state["step"])
        return ""

    def batch(self, step: int) -> dict[str, Tensor]:
        found = self.batches.whole(step)
        if "architecture" in self.updates:
            found |= {f"architecture_{name}": value for name, value in self.others.whole(step).items()}
        return found

    def _trial_step(self, step: int, batch: Batch, trials: Trials) -> dict[str, Tensor]:
        cell, place, length = trials.at(step)
        update = self.updates["weights"]
        if place == 0:
            trials.begin(step, update)
        loss = self.bench.weights_loss(step, length, batch, cell)
        logged = {"loss": loss, **update(place, length)}
        if place == length - 1:
            trials.accuracies += self.accuracies([cell], self.chosen_by)
        return logged

    def _found(self) -> Cell:
        """The cell that the search has found so far, by images of the architecture."""
        if self.trials is not None:
            return self.trials.best
        if "architecture" in self.updates:
            return self.bench.found()
        cells = candidates(self.options)
        return best_of(cells, self.accuracies(cells, self.chosen_by))

    def _mixture(self) -> Tensor | None:
        """The weights (6, 5) of the operations, if the search has some."""
        return self.supernet.architecture.detach().softmax(1) if "architecture" in self.updates else None

    def _batches(self, images: ImageSet, purpose: str) -> Batches:
        config, acc = self.options, self.run.accelerator
        return Batches(
            images,
            batch_size=config.batch_size,
            seed=config.seed,
            augment=config.augment,
            device=acc.device,
            purpose=purpose,
            rank=acc.process_index,
            world=acc.num_processes,
        )

    def _formatted(self, batch: Batch) -> Batch:
        x, y = batch
        return (x.contiguous(memory_format=torch.channels_last), y) if self.options.channels_last else batch


def _optimizers(config: NasConfig, supernet: Supernet) -> dict[str, tuple[Optimizer, Optim, Schedule]]:
    """The optimisers of the weights, and of the architecture if the search trains it."""
    own = nn.ParameterList([supernet.architecture])
    weights = build_optimizer(supernet, config.weights, without=own)
    optimizers: dict[str, tuple[Optimizer, Optim, Schedule]] = {
        "weights": (weights, config.weights, config.schedule)
    }
    if config.trains_architecture:
        architecture = build_optimizer(own, config.architecture)
        optimizers["architecture"] = (architecture, config.architecture, Constant())
    return optimizers


TASK = ArchitectureSearch
