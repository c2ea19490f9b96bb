"""The training loop: one global step is the single counter from which order, noise and learning rate follow."""

import contextlib
import math
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor

from robustsabn.user_code import kept_alive
from robustsabn.data.sets import Data, check_fit
from robustsabn.errors import CheckpointError, TrainingError
from robustsabn.files import require_space, write_text
from robustsabn.trainers.checkpoints import files as store
from robustsabn.trainers.adversarial.accumulation import check_accumulation, parts
from robustsabn.trainers.loop.averages import Swa, averages
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.adversarial.step import StepBench
from robustsabn.trainers.loop.compiling import compile_network, many_graphs
from robustsabn.trainers.config import AdamW, TrainConfig
from robustsabn.trainers.adversarial.content import check_content
from robustsabn.trainers.loop.ended import ended_run, tell_ended
from robustsabn.trainers.adversarial.evaluation import Evaluation
from robustsabn.trainers.adversarial.first_batch import try_network
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.loop.finite import Guard
from robustsabn.trainers.checkpoints.manager import Keeper
from robustsabn.trainers.methods import Awp, Losses, check_run, checked
from robustsabn.trainers.runs.monitor import Monitor, Window
from robustsabn.trainers.loop.updates import build_optimizer, learning_rate, set_learning_rate
from robustsabn.trainers.adversarial.weight_perturbation import layer_weights
from robustsabn.trainers.loop.precision import tensor_float32
from robustsabn.trainers.loop.distributed import (
    average_statistics,
    every_statistics,
    launch_note,
    load_data,
    load_extra_data,
    prepare,
    reduced,
    shared,
    start,
)
from robustsabn.trainers.loop.draws import derive, restored
from robustsabn.trainers.adversarial.bn_statistics import estimate_statistics
from robustsabn.trainers.loop.result import RunResult
from robustsabn.trainers.checkpoints.resume import Found, compare, find
from robustsabn.trainers.adversarial.models import build_model
from robustsabn.trainers.loop.signals import Interrupted, Signals, noted
from robustsabn.trainers.loop.stopping import Stop
from robustsabn.trainers.adversarial.trained_routes import untrained_note
from robustsabn.trainers.adversarial.validation import Validator

__all__ = ["RunResult", "Trainer", "run"]


def run(
    config: TrainConfig, name: str = "run", resume: bool = False, trainer: "type[Trainer] | None" = None
) -> RunResult:
    """Train as `config` says, from the last checkpoint if `resume`. See `robustsabn.trainers.train`."""
    with (
        kept_alive(TrainingError),
        restored(),
        tensor_float32(config.tf32),
        many_graphs(config.compile),
        noted() as signals,
        contextlib.ExitStack() as held,
    ):
        acc = start(config)
        # decided once: what one process sees on the disk, another may have just written
        folder = shared(acc, lambda: RunFolder.claim(config.out, name, resume, held))
        if resume and (ended := shared(acc, lambda: ended_run(folder, config))) is not None:
            if acc.is_main_process:
                tell_ended(ended)
            return ended
        return (trainer or Trainer)(config, acc, folder, resume, signals).fit()


class Trainer:
    """One run: model, optimiser, batches and counters, and nothing else that would have to be saved."""

    def __init__(
        self, config: TrainConfig, acc: Accelerator, folder: RunFolder, resume: bool, signals: Signals
    ) -> None:
        self.config, self.accelerator, self.folder, self.signals = config, acc, folder, signals
        self.stopping = Stop(acc, signals)
        self.main, self.device = acc.is_main_process, acc.device
        data = load_data(acc, config)
        extra = load_extra_data(acc, config, data)
        if config.test.images is not None:  # said now rather than after hours
            check_fit(config.test.images, len(data.test))
        found = find(self.folder) if resume else None
        stored = None if found is None else found.stored
        changes = [] if stored is None else compare(self.folder, stored, config, data.train.shape)
        if stored is not None:
            check_content(self.folder.path, stored, config, data, extra)

        torch.manual_seed(derive(config.seed, "model"))
        self.model = build_model(config, len(data.classes), data.train.shape, fresh=stored is None)
        if isinstance(config.method, Awp):
            layer_weights(self.model)  # refuses now rather than after warm-up
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            compile_network(self.model)
        wrapped, self.optimizer = prepare(acc, self.model, build_optimizer(self.model, config.optim))

        self.batches = Batches(
            data.train,
            config.batch_size,
            config.seed,
            config.augment,
            self.device,
            acc.process_index,
            acc.num_processes,
            getattr(config.method, "replays", 1),
            len(data.classes),
            extra,
        )
        check_accumulation(config, self.model, self.batches.share)
        notes = self._try(data)
        self.bench = StepBench(
            acc,
            self.model,
            wrapped,
            config.attack,
            seed=config.seed,
            batch_size=config.batch_size,
            share=self.batches.share,
            per_epoch=self.batches.steps_per_epoch,
            smoothing=config.label_smoothing,
            classes=len(data.classes),
            fold=not config.compile,
        )
        check_run(config.method, self.bench, self.batches.share.stop - self.batches.share.start)
        self.per_epoch = self.batches.steps_per_epoch
        self.total = config.steps or config.epochs * self.per_epoch
        self.averages = averages(config, self.model, self.per_epoch, self.total)
        self.keeper = Keeper(
            acc, self.folder, self.model, self.optimizer, self.bench, config, data, self.averages, extra
        )
        self.step = 0 if found is None else self.keeper.restore(found)
        acc.wait_for_everyone()
        shared(acc, lambda: self._open(found))
        self.window, self.last_loss = Window(), math.nan
        self.guard = Guard(acc, self.batches, self.folder.path, self.model)
        self.monitor = Monitor(self.folder.metrics, self.folder.tb, self.total, self.step, self.main)
        self.validator = Validator(acc, self.model, data, config, self.monitor)
        if hint := launch_note(acc):
            self.monitor.say(hint)
        for line in data.notes:
            self.monitor.say(line)
        if note := untrained_note(config, self.model):
            self.monitor.say(note)
        for note in notes:
            self.monitor.say(note)
        for line in (*(found.damaged.values() if found else ()), *changes):
            self.monitor.say(line)
        if resume and found is None:
            self.monitor.say(f"{self.folder.path} ended before its first checkpoint and begins again")
        elif resume and self.step < self.total:
            self.monitor.say(f"resuming {self.folder.path} at step {self.step} of {self.total}")
        elif resume:
            over = (
                f"its {self.step} steps are done (asked for: {self.total}); more epochs= or steps= train on"
            )
            self.monitor.say(f"{self.folder.path}: {over}")

    def _try(self, data: Data) -> list[str]:
        """What there is to say of the network after one batch."""
        size = (self.batches.share.stop - self.batches.share.start) // self.config.accumulate
        x, _ = data.train.batch(torch.arange(size), self.device)
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            return try_network(self.model, x, len(data.classes), self.config.soft_labels)

    def fit(self) -> RunResult:
        """Train to the end, then evaluate the best checkpoint on the test set."""
        with self.monitor.running():
            self._train()
            self.stopping.heard()
            self._write_config()
            try:
                with self.signals.at_once(), self.monitor.together():
                    return self._close()
            except Interrupted:
                again = f"--resume of {self.folder.path} does them again"
                self.monitor.say(f"stopped in the closing evaluations; all steps are saved, {again}")
                raise

    def _train(self) -> None:
        config = self.config
        if not self.model.training:  # otherwise a layer in eval mode was frozen by who made the network
            self.model.train()
        for x, y in self.batches.run(self.step, self.total):
            self._update(x, y)
            epoch, rest = divmod(self.step, self.per_epoch)
            end = self.step == self.total
            validates = end or (rest == 0 and epoch % config.validation.every == 0)
            saves = validates or rest == 0
            saves |= config.checkpoint_every is not None and self.step % config.checkpoint_every == 0
            stops = not end and self.stopping.asked(self.step)
            if self.step % config.log_every == 0 or saves or stops:
                self._log()
            if saves or stops:
                self.guard.check_weights(self.step - 1)
                # a run that had not been stopped would have gone on with these
                own = {} if saves else every_statistics(self.accelerator, self.model)
                average_statistics(self.accelerator, self.model)
                self._save(self._validate() if validates else {}, own)
            if stops:
                self.monitor.say(
                    f"stopped at step {self.step}, state saved; --resume continues {self.folder.path}"
                )
                raise Interrupted

    def _update(self, x: Tensor, y: Tensor) -> None:
        config = self.config
        rate = learning_rate(config.schedule, config.optim.lr, self.step, self.total)
        set_learning_rate(self.optimizer, rate)
        torch.manual_seed(derive(config.seed, "step", self.step, self.accelerator.process_index))
        if config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        losses = self._backward(x, y)
        if config.optim.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), config.optim.clip)
            losses = {**losses, "gradient_norm": norm}
        self.optimizer.step()
        self.optimizer.zero_grad()
        for average in self.averages.values():
            average.update(self.step)
        self.guard.watch(self.step, losses["loss"])
        self.window.add(losses)
        self.step += 1

    def _backward(self, x: Tensor, y: Tensor) -> Losses:
        """The losses of this process's share of the batch, their gradients added to those of the parameters."""
        method, count, means = self.config.method, self.config.accumulate, Losses()
        for i, (part, share) in enumerate(parts(self.batches.share, count), 1):
            # gradients are averaged over the processes with the last part
            alone = nullcontext() if i == count else self.accelerator.no_sync(self.bench.wrapped)
            with alone, self.bench.at(self.step, share):
                losses = checked(method.losses(self.bench, x[part], y[part]), method)
                self.accelerator.backward(losses["loss"] / count)
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / count
        return means

    def _log(self) -> None:
        if not self.window.steps:
            return
        images = self.window.steps * self.config.batch_size
        names, means = self.window.mean()
        values = dict(zip(names, reduced(self.accelerator, means, "mean").tolist(), strict=True))
        self.guard.check_loss(values["loss"])
        speed = images / self.window.lap()
        extra = {
            "epoch": self.step / self.per_epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": round(speed, 1),
        }
        self.monitor.record("train", self.step, {**values, **extra})
        self.monitor.advance(self.step, f"loss {values['loss']:.3f}  {speed:.0f} images/s")
        self.last_loss = values["loss"]

    def _validate(self) -> dict[str, Evaluation]:
        epoch = f"epoch {self.step / self.per_epoch:.4g}/{self.total / self.per_epoch:.4g}"
        found = {"best": self.validator.validate(self.step, f"{epoch}  loss {self.last_loss:.3f}")}
        for name, average in self.averages.items():
            if average.changed:
                with average.in_place():
                    if isinstance(average, Swa):
                        self._estimate_statistics()
                    found[name] = self.validator.validate(self.step, f"  {average.words}", name)
                average.evaluated = average.count
        self.window.lap()  # evaluating is not training time
        return found

    def _estimate_statistics(self) -> None:
        assert self.config.swa is not None
        estimate_statistics(self.config.method, self.bench, self.batches, self.step, self.config.swa.batches)

    def _save(self, found: dict[str, Evaluation], own: dict[str, Tensor]) -> None:
        self.monitor.flush()
        self.keeper.save(self.step, self.step / self.per_epoch, found, own)
        self._write_config()
        self.bench.mirrors.clear()

    def _open(self, found: Found | None) -> None:
        self._check_space()
        for name in found.damaged if found else ():
            store.set_aside(self.folder.checkpoints, name)
        if found is None:
            store.clear(self.folder.checkpoints)  # what a first checkpoint left that was not completed
            write_text(self.folder.config, self.keeper.resolved)

    def _write_config(self) -> None:
        """Where a run goes on, only together with what it has done: until then the files are those of the run so far."""
        shared(self.accelerator, lambda: write_text(self.folder.config, self.keeper.resolved))

    def _check_space(self) -> None:
        """WriteError unless the disk has room for the checkpoints that are kept, and for the next one beside them."""
        weights = sum(value.numel() * value.element_size() for value in self.model.state_dict().values())
        states = 1 + (2 if isinstance(self.config.optim, AdamW) else 1) + len(self.averages)
        there = sum(file.stat().st_size for file in self.folder.checkpoints.glob("*/*.safetensors"))
        require_space(
            self.folder.path, max(weights * (4 * states + len(self.averages)) - there, weights * states)
        )

    def _close(self) -> RunResult:
        try:
            step = self.keeper.weights("best")
            which = "best"
        except CheckpointError as error:  # the weights in memory are the last
            which, step = "last", self.step
            self.monitor.say(f"{error}; the table below is of the last checkpoint instead")
        found = self.validator.close(self.step, f"{which} checkpoint (step {step})")
        last = self._close_other("last", "last checkpoint") if step < self.step else None
        closed = {name: self._close_other(name, average.words) for name, average in self.averages.items()}
        self.accelerator.wait_for_everyone()
        known = {name: evaluation for name, evaluation in closed.items() if evaluation is not None}
        return RunResult(self.folder.path, self.step, step, found, last, known)

    def _close_other(self, name: str, words: str) -> Evaluation | None:
        try:
            step = self.keeper.weights(name)
        except CheckpointError as error:
            self.monitor.say(f"{error}; there is no table of {words}")
            return None
        return self.validator.close(self.step, f"{words} (step {step})", f"test_{name}")
