"""Adversarial training of a classifier, as a task for the training loop."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.data.sets import check_fit
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation
from robustsabn.trainers.adversarial.evaluation.trained_routes import plain_note, untrained_note
from robustsabn.trainers.adversarial.evaluation.validation import Validator
from robustsabn.trainers.adversarial.runs.data import load_data, load_extra_data
from robustsabn.trainers.adversarial.runs.models import build_model
from robustsabn.trainers.adversarial.runs.results import RESULTS
from robustsabn.trainers.adversarial.step.accumulation import check_accumulation, parts
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.adversarial.step.averages import averages
from robustsabn.trainers.adversarial.step.bn_statistics import estimate_statistics
from robustsabn.trainers.adversarial.step.first_batch import try_network
from robustsabn.trainers.adversarial.step.weight_perturbation import layer_weights
from robustsabn.trainers.checkpoints.state import check_images
from robustsabn.trainers.loop.batches import Batch, Batches
from robustsabn.trainers.loop.compiling import compile_network
from robustsabn.trainers.loop.draws import derive
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.task import Task
from robustsabn.trainers.loop.updates import build_optimizer
from robustsabn.trainers.methods import Awp, checked
from robustsabn.trainers.runs.content import check_content, content, used_sha256
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["AdversarialTraining"]


class AdversarialTraining(Task[TrainConfig, Evaluation]):
    """One network, trained by a method on images that may be attacked."""

    config = TrainConfig
    results = RESULTS
    following = ("evaluate", "RUN", "--attack", "autoattack")

    def __init__(self, run: Run[TrainConfig]) -> None:
        config, acc = run.config, run.accelerator
        self.options, self.accelerator = config, acc
        self.data = load_data(acc, config)
        self.remarks = [*self.data.notes]
        self.extra = extra = load_extra_data(acc, config, self.data, self.remarks)
        self.content = content(self.data, extra)
        if config.test.images is not None:  # reported now, not at the end of training
            check_fit(config.test.images, len(self.data.test))
        if run.resumed is not None:
            check_images(run.resumed.stored.state, run.folder.checkpoints)
            named = {"data": config.data, "extra": None if config.extra is None else config.extra.data}
            check_content(run.folder.path, run.resumed.stored, named, self.data, self.content)
            if "content" not in run.resumed.stored.state:
                older = "the checkpoint is of an earlier version: whether it saw these images is unknown"
                self.remarks.append(older)
        self.model = _network(config, len(self.data.classes), self.data.train.shape, run.fresh)
        optimizer = build_optimizer(self.model, config.optim)
        self.networks, self.updates = run.prepare(
            {"model": self.model}, {"model": (optimizer, config.optim, config.schedule)}
        )
        self.batches = Batches(
            self.data.train,
            batch_size=config.batch_size,
            seed=config.seed,
            augment=config.augment,
            device=acc.device,
            rank=acc.process_index,
            world=acc.num_processes,
            replays=config.method.replays,
            classes=len(self.data.classes),
            extra=extra,
        )
        self.steps_per_epoch, share = self.batches.steps_per_epoch, self.batches.share
        check_accumulation(config, self.model, share)
        self.remarks += self._try()
        self.bench = AdversarialStep(
            acc,
            self.model,
            self.networks["model"].wrapped,
            config.attack,
            seed=config.seed,
            batch_size=config.batch_size,
            share=share,
            per_epoch=self.steps_per_epoch,
            smoothing=config.label_smoothing,
            classes=len(self.data.classes),
            fold=not config.compile,
        )
        config.method.check_bench(self.bench, share.stop - share.start)
        total = config.steps or config.epochs * self.steps_per_epoch
        self.averages = averages(config, self.model, self.steps_per_epoch, total)

    def start(self, step: int, total: int, monitor: Monitor) -> None:
        self.total = total
        self.stream: Iterator[Batch] = self.batches.run(step, total)
        self.validator = Validator(self.accelerator, self.model, self.data, self.options, monitor)

    def step(self, step: int) -> dict[str, Tensor]:
        x, y = next(self.stream)
        if self.options.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return {**self._backward(step, x, y), **self.updates["model"](step, self.total)}

    def validate(self, step: int, kind: str, heading: str) -> Evaluation:
        if self.options.swa is not None and kind == "swa":
            count = self.options.swa.batches
            estimate_statistics(self.options.method, self.bench, self.batches, step, count)
        return self.validator.validate(step, heading, kind)

    def analysed(self, count: int) -> Record:
        return self.validator.analysed(count)

    def score(self, measured: Evaluation) -> list[float]:
        score = [measured.robust_accuracy, measured.clean_accuracy]
        return score if self.options.by_robustness else score[::-1]

    def close(self, step: int, kind: str, heading: str) -> Evaluation:
        return self.validator.close(step, heading, kind)

    def facts(self) -> dict[str, Any]:
        shape = list(self.data.train.shape)
        return {"classes": list(self.data.classes), "shape": shape, "content": self.content}

    def data_sha256(self) -> dict[str, str]:
        return used_sha256(self.data, self.extra)

    def notes(self) -> list[str]:
        notes = untrained_note(self.options, self.model), plain_note(self.options)
        return [*filter(None, notes), *self.remarks]

    @classmethod
    def read_closing(
        cls, records: Sequence[Record], kind: str, before: TrainConfig, now: TrainConfig
    ) -> Evaluation | None:
        if kind == "test":  # older records do not have their protocol
            protocols = [
                record.get("asked", before.test.protocol) for record in records if record["kind"] == kind
            ]
            if protocols[-1:] != [now.test.protocol]:
                return None
        return super().read_closing(records, kind, before, now)

    def carried(self) -> dict[str, Tensor]:
        return self.bench.carried

    def restore(self, carried: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        fits = all(len(value) == self.options.batch_size for value in carried.values())
        if not fits or state["shape"] != list(self.data.train.shape):
            return (
                "the tensors that the method carries between batches start from the beginning"
                if carried
                else ""
            )
        device, share = self.accelerator.device, self.batches.share
        self.bench.carried = {name: value[share].to(device) for name, value in carried.items()}
        return ""

    def saved(self) -> None:
        self.bench.folded_copies.clear()

    def batch(self, step: int) -> dict[str, Tensor]:
        return self.batches.whole(step)

    def _try(self) -> list[str]:
        """Notes on the network from running it on one batch."""
        size = (self.batches.share.stop - self.batches.share.start) // self.options.accumulate
        x, _ = self.data.train.batch(torch.arange(size), self.accelerator.device)
        if self.options.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            return try_network(self.model, x, len(self.data.classes), self.options.soft_labels)

    def _backward(self, step: int, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Compute the losses of this process's share of the batch and add up their gradients."""
        method, count, means = self.options.method, self.options.accumulate, dict[str, Tensor]()
        for i, (part, share) in enumerate(parts(self.batches.share, count), 1):
            # the last part averages the gradients over the processes
            alone = nullcontext() if i == count else self.accelerator.no_sync(self.bench.wrapped)
            with alone, self.bench.at(step, share):
                losses = checked(method.losses(self.bench, x[part], y[part]), method)
                self.accelerator.backward(losses["loss"] / count)
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / count
        return means


def _network(config: TrainConfig, classes: int, shape: tuple[int, int, int], fresh: bool) -> nn.Module:
    torch.manual_seed(derive(config.seed, "model"))
    model = build_model(config, classes, shape, fresh=fresh)
    if isinstance(config.method, Awp):
        layer_weights(model)  # raises now, not after the warm-up
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        compile_network(model)
    return model


TASK = AdversarialTraining
