"""The training loop of every task: order, noise and learning rates depend only on the step."""

import contextlib
import math
from typing import Generic

import numpy as np
import torch

from robustsabn.errors import CheckpointError, ConfigError, TrainingError
from robustsabn.files import write_text
from robustsabn.report.following import following
from robustsabn.text import shorten
from robustsabn.trainers.checkpoints import files
from robustsabn.trainers.checkpoints.changes import changed, changes_training, with_free_settings
from robustsabn.trainers.checkpoints.manager import CheckpointManager
from robustsabn.trainers.checkpoints.resume import config_changes, find_checkpoint
from robustsabn.trainers.loop.compiling import many_graphs
from robustsabn.trainers.loop.draws import derive, restored
from robustsabn.trainers.loop.ended import ended_run, last_lines, print_ended, repair_config
from robustsabn.trainers.loop.finite import Guard
from robustsabn.trainers.loop.precision import tensor_float32
from robustsabn.trainers.loop.result import RunResult
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.task import C, M, Task
from robustsabn.trainers.processes.distributed import (
    average_statistics,
    every_statistics,
    launch_note,
    reduced,
    shared,
    start,
)
from robustsabn.trainers.processes.signals import Interrupted, noted
from robustsabn.trainers.processes.stopping import Stop
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.monitor import Monitor, Window
from robustsabn.trainers.runs.provenance import note_end, note_start
from robustsabn.trainers.tracking.affines import affines_by_route
from robustsabn.user_code import kept_alive

__all__ = ["Loop", "RunResult", "run"]


def run(config: C, task: type[Task[C, M]], name: str = "run", resume: bool = False) -> RunResult[M]:
    """Train as `config` says, from the last checkpoint if `resume`; see `robustsabn.trainers.train`."""
    with (
        kept_alive(TrainingError),
        restored(),
        tensor_float32(config.tf32),
        many_graphs(config.compile),
        noted() as signals,
        contextlib.ExitStack() as held,
    ):
        accelerator = start(config)
        # only the main process looks: another process may already have created files
        folder = shared(accelerator, lambda: RunFolder.claim(config.out, name, resume, held))
        if resume and (ended := shared(accelerator, lambda: ended_run(folder, config, task))) is not None:
            if accelerator.is_main_process:
                print_ended(ended, task)
            shared(accelerator, lambda: repair_config(folder, config))
            return ended
        resumed = find_checkpoint(folder) if resume else None
        changes = [] if resumed is None else config_changes(folder, resumed.stored, config)
        opened = Run(config=config, accelerator=accelerator, folder=folder, signals=signals, resumed=resumed)
        return Loop(opened, task(opened)).fit(changes, resume)


class Loop(Generic[C, M]):
    """The training loop of one run; its only state to save is the step."""

    def __init__(self, run: Run[C], task: Task[C, M]) -> None:
        self.run, self.task, self.config = run, task, run.config
        self.accelerator, self.folder = run.accelerator, run.folder
        self.stopping = Stop(self.accelerator, run.signals)
        self.models = [network.raw for network in task.networks.values()]
        self.per_epoch = task.steps_per_epoch
        self.total = self.config.steps or self.config.epochs * self.per_epoch
        self.manager = CheckpointManager(run, task)
        self.step, self.anew = (0, "") if run.resumed is None else self.manager.restore(run.resumed)
        self.began = self.step
        self._check_steps_left()
        if self.config.analysis is not None and type(task).analysed is Task.analysed:
            raise ConfigError(f"analysis: the task {self.config.task} does not analyse routes; leave it out")
        self.accelerator.wait_for_everyone()
        shared(self.accelerator, self._open)
        self.window, self.last_loss = Window(), math.nan
        self.guard = Guard(self.accelerator, self.folder.path, self.models, task.batch, task.remedy)
        self.monitor = Monitor(
            self.folder.metrics,
            self.folder.tb,
            self.total,
            self.step,
            self.accelerator.is_main_process,
            task.results.charts,
            self.config.trackers,
        )

    def fit(self, changes: list[str], resume: bool) -> RunResult[M]:
        """Train to the end, then evaluate the best checkpoint.

        `changes` are lines about changed settings, printed first.
        """
        with self.monitor.running():
            shared(self.accelerator, lambda: self.monitor.describe(self.config))
            self._introduce(changes, resume)
            shared(self.accelerator, self._note_start)
            self.task.start(self.step, self.total, self.monitor)
            self._train()
            self.stopping.requested_so_far()
            self._write_config()
            try:
                with self.run.signals.at_once(), self.monitor.together():
                    result = self._close()
            except Interrupted:
                again = f"--resume of {self.folder.path} runs them again"
                self.monitor.say(f"stopped during the closing evaluations; all steps are saved, {again}")
                raise
            shared(self.accelerator, self._note_end)
            for line in last_lines(self.folder.path, self.task.following):
                self.monitor.say(line)
            return result

    def _introduce(self, changes: list[str], resume: bool) -> None:
        resume_point, place = self.run.resumed, self.folder.path
        hint = launch_note(self.accelerator)
        damaged = resume_point.damaged.values() if resume_point else ()
        for line in (*([hint] if hint else []), *self.task.notes(), *damaged, *changes, self.anew):
            if line:
                self.monitor.say(line)
        if resume and resume_point is None:
            self.monitor.say(f"{place} ended before its first checkpoint and starts from the beginning")
        elif resume and self.step < self.total:
            self.monitor.say(f"resuming {place} at step {self.step} of {self.total}")
        elif resume:
            over = f"its {self.step} steps are done (of {self.total}); raise epochs= or steps= to train on"
            self.monitor.say(f"{place}: {over}")

    def _note_start(self) -> None:
        if self.step < self.total:
            acc, hashes = self.accelerator, self.task.data_sha256()
            note_start(self.folder, self.step, acc.device, acc.num_processes, hashes)

    def _note_end(self) -> None:
        note_end(self.folder, self.accelerator.device, list(self.task.networks))

    def _train(self) -> None:
        config = self.config
        for model in self.models:
            if not model.training:  # a layer alone in eval mode is meant to be frozen
                model.train()
        self.window.lap()  # trackers and hashes of the data do not count as training time
        while self.step < self.total:
            self._update()
            epoch, rest = divmod(self.step, self.per_epoch)
            end = self.step == self.total
            validates = end or (rest == 0 and epoch % config.validation.every == 0)
            saves = validates or rest == 0
            saves |= config.checkpoint_every is not None and self.step % config.checkpoint_every == 0
            stops = not end and self.stopping.requested(self.step)
            if self.step % config.log_every == 0 or saves or stops:
                self._log()
            if saves or stops:
                self._save(validates, stops and not saves)
            if stops:
                self.monitor.say(f"stopped at step {self.step}, state saved in {self.folder.path}")
                self.monitor.say(following("train", self.folder.path / "config.yaml", "--resume"))
                raise Interrupted

    def _update(self) -> None:
        torch.manual_seed(derive(self.config.seed, "step", self.step, self.accelerator.process_index))
        logged = self.task.step(self.step)
        for average in self.task.averages.values():
            average.update(self.step)
        self.guard.watch(self.step, logged["loss"])
        self.window.add(logged)
        self.step += 1

    def _log(self) -> None:
        if not self.window.steps:
            return
        images = self.window.steps * self.config.step_images
        names, means = self.window.mean()
        values = dict(zip(names, reduced(self.accelerator, means, "mean").tolist(), strict=True))
        self.guard.check_loss(values["loss"])
        speed = images / self.window.lap()
        first, *others = self.task.updates.items()
        rates = {"lr": first[1].rate, **{f"lr_{name}": update.rate for name, update in others}}
        extra = {"epoch": self.step / self.per_epoch, **rates, "images_per_second": round(speed, 1)}
        self.monitor.record("train", self.step, {**values, **extra})
        self.monitor.advance(self.step, f"loss {values['loss']:.3f}  {speed:.0f} images/s")
        self.last_loss = values["loss"]

    def _save(self, validates: bool, unplanned: bool) -> None:
        """Average the running statistics, evaluate if `validates`, and write a checkpoint.

        An `unplanned` checkpoint also stores the statistics of each process, with which an uninterrupted run
        would have continued.
        """
        self.guard.check_weights(self.step - 1)
        own = {}
        for name, network in self.task.networks.items():
            if unplanned:
                own[name] = every_statistics(self.accelerator, network.raw)
            average_statistics(self.accelerator, network.raw)
        evaluations = self._validate() if validates else {}
        self.monitor.flush()
        self.manager.save(self.step, self.step / self.per_epoch, evaluations, own)
        self._write_config()
        self.task.saved()
        self.window.lap()  # evaluating and saving do not count as training time

    def _validate(self) -> dict[str, M]:
        if self.config.steps is None:
            done = f"epoch {self.step / self.per_epoch:.4g}/{self.total / self.per_epoch:.4g}"
        else:
            done = f"step {self.step}/{self.total}"
        heading = f"{done}  loss {self.last_loss:.3f}"
        evaluations = {"best": self.task.validate(self.step, "validation", heading)}
        if self.config.analysis is not None:  # in all processes: batch norms may exchange their statistics
            self.monitor.record("analysis", self.step, self.task.analysed(self.config.analysis))
        if self.monitor.active:
            self.monitor.histograms(self._affines(), self.step)
        for name, average in self.task.averages.items():
            if average.changed:
                with average.in_place():
                    evaluations[name] = self.task.validate(self.step, name, f"  {average.words}")
                average.evaluated = average.count
        return evaluations

    def _affines(self) -> dict[str, np.ndarray]:
        """The effective affines of all networks, by tags such as "routes/scale/clean"."""
        networks = self.task.networks
        return {
            f"routes/{f'{name}/' if len(networks) > 1 else ''}{which}": values
            for name, network in networks.items()
            for which, values in affines_by_route(network.raw).items()
        }

    def _open(self) -> None:
        self.manager.check_space()
        for name in self.run.resumed.damaged if self.run.resumed else ():
            files.set_aside(self.folder.checkpoints, name)
        if self.run.resumed is None:
            files.clear(self.folder.checkpoints)  # remains of a first checkpoint that was not completed
            write_text(self.folder.config, self.manager.resolved)

    def _write_config(self) -> None:
        """Write config.yaml.

        A resumed run writes its new settings only with its first checkpoint; until then the file describes
        the checkpoint that is on disk.
        """
        text = self.manager.resolved
        if self.run.resumed is not None and self.step == self.began:  # no new step yet
            text = self.manager.resolve(
                with_free_settings(self.run.resumed.stored.state["config"], self.config)
            )
        shared(self.accelerator, lambda: write_text(self.folder.config, text))

    def _check_steps_left(self) -> None:
        """Raise ConfigError if a finished run gets settings that would need more training."""
        if self.run.resumed is None or self.step < self.total:
            return
        before = self.run.resumed.stored.state["config"]
        for key, _, value in changed(before, self.config):
            if key not in ("epochs", "steps") and changes_training(self.config, key):
                raise ConfigError(
                    f"{self.folder.path} has done its {self.step} steps: {key}={shorten(value)} would have "
                    "no effect; raise steps= or epochs= to train on, or start a new run with out="
                )

    def _close(self) -> RunResult[M]:
        try:
            step = self.manager.weights("best")
            which = "best"
        except CheckpointError as error:  # the weights in memory are those of the last step
            which, step = "last", self.step
            self.monitor.say(f"{error}; the table below is of the last checkpoint instead")
        best = self.task.close(self.step, "test", f"{which} checkpoint (step {step})")
        last = self._close_other("last", "last checkpoint") if step < self.step else None
        closed = {name: self._close_other(name, each.words) for name, each in self.task.averages.items()}
        self.accelerator.wait_for_everyone()
        known = {name: evaluation for name, evaluation in closed.items() if evaluation is not None}
        return RunResult(
            folder=self.folder.path,
            steps=self.step,
            best_step=step,
            evaluation=best,
            last=last,
            averages=known,
        )

    def _close_other(self, name: str, words: str) -> M | None:
        try:
            step = self.manager.weights(name)
        except CheckpointError as error:
            self.monitor.say(f"{error}; so there is no table of {words}")
            return None
        return self.task.close(self.step, f"test_{name}", f"{words} (step {step})")
