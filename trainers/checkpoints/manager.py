"""The checkpoints of a run: what goes into them, which are kept for their validation accuracy, how a run takes one up."""

from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

import robustsabn.config
from robustsabn.data import Data, ImageSet
from robustsabn.errors import CheckpointError
from robustsabn.models.versions import load_state
from robustsabn.text import one_line
from robustsabn.trainers.checkpoints import files as store
from robustsabn.trainers.loop.averages import Average
from robustsabn.trainers.adversarial.step import StepBench
from robustsabn.trainers.config import TrainConfig
from robustsabn.trainers.adversarial.content import content
from robustsabn.trainers.checkpoints.edited import digest
from robustsabn.trainers.adversarial.evaluation import Evaluation
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.loop.distributed import gathered, restore_statistics, shared
from robustsabn.trainers.checkpoints.resume import KEPT, Found, carries_over

__all__ = ["Keeper"]


class Keeper:
    """Saves and restores one run. `best` keeps the weights of highest score, `ema` and `swa` the averaged ones of highest score."""

    def __init__(
        self,
        accelerator: Accelerator,
        folder: RunFolder,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        bench: StepBench,
        config: TrainConfig,
        data: Data,
        averages: dict[str, Average],
        extra: tuple[ImageSet, int] | None = None,
    ) -> None:
        self.accelerator, self.folder, self.model, self.optimizer = accelerator, folder, model, optimizer
        self.bench, self.config, self.classes, self.shape = bench, config, data.classes, data.train.shape
        self.averages, self.content = averages, content(data, extra)
        self.resolved = robustsabn.config.dump(replace(config, out=str(folder.path)))
        self.kept: dict[str, dict[str, Any]] = {name: {"score": [-1.0, -1.0], "step": -1} for name in KEPT}

    def save(self, step: int, epoch: float, found: dict[str, Evaluation], own: dict[str, Tensor]) -> None:
        """Store the run after `step` steps as `last`, and under each of the names in `found` if that beats what is kept.

        `own` are the running statistics to go on with where those of the processes differ, (processes, ...) by name.
        """
        better = [name for name, evaluation in found.items() if self._beats(name, step, evaluation)]
        carried = {name: gathered(self.accelerator, value) for name, value in self.bench.carried.items()}
        shared(self.accelerator, lambda: self._write(step, epoch, found, own, better, carried))
        self.accelerator.wait_for_everyone()

    def _write(
        self,
        step: int,
        epoch: float,
        found: dict[str, Evaluation],
        own: dict[str, Tensor],
        better: list[str],
        carried: dict[str, Tensor],
    ) -> None:
        scaler = self.accelerator.scaler
        state = {
            "step": step,
            "epoch": epoch,
            **self.kept,
            "averages": {name: average.counts for name, average in self.averages.items()},
            "validation": {name: evaluation.to_dict() for name, evaluation in found.items()},
            "classes": list(self.classes),
            "shape": list(self.shape),
            "content": self.content,
            "scaler": None if scaler is None else scaler.state_dict(),
            "config": robustsabn.config.to_dict(self.config),
            "config_file": digest(self.resolved),
        }
        tensors = {"model": self.model.state_dict(), "optimizer": store.optimizer_tensors(self.optimizer)}
        if carried:
            tensors["method"] = carried
        if own:
            tensors["statistics"] = own
        for name, average in self.averages.items():
            tensors[name] = average.values
            if name in better:
                with average.in_place():
                    averaged = store.Checkpoint({"model": self.model.state_dict()}, state)
                    store.write(self.folder.checkpoints, averaged, (name,))
        names = ("last", "best") if "best" in better else ("last",)
        store.write(self.folder.checkpoints, store.Checkpoint(tensors, state), names)

    def restore(self, found: Found) -> int:
        """Bring model, optimiser and scores to where they were, and say after how many steps that was.

        Raises CheckpointError where the tensors are not those of such a run.
        """
        try:
            return self._restore(found)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder.checkpoints} does not fit this run ({one_line(error)}); has the model's code "
                "changed since?"
            ) from error

    def _restore(self, found: Found) -> int:
        stored = found.stored
        load_state(self.model, stored.tensors["model"])
        restore_statistics(self.accelerator, self.model, stored.tensors.get("statistics", {}))
        store.restore_optimizer(self.optimizer, stored.tensors["optimizer"])
        if self.accelerator.scaler is not None and stored.state["scaler"]:
            self.accelerator.scaler.load_state_dict(stored.state["scaler"])
        if carries_over(stored, self.config.batch_size, self.shape):
            carried, device = stored.tensors["method"], self.accelerator.device
            self.bench.carried = {name: value[self.bench.share].to(device) for name, value in carried.items()}
        for name, average in self.averages.items():
            average.load(stored.tensors.get(name), stored.state.get("averages", {}).get(name))
        for name in KEPT:
            if name in stored.state and name not in found.damaged:
                self.kept[name] = stored.state[name]
        step: int = stored.state["step"]
        return step

    def weights(self, name: str) -> int:
        """Give the model the weights kept as `name`, and say of which step; CheckpointError where they are damaged."""

        def read() -> tuple[store.Tensors, int]:
            found = store.read(self.folder.checkpoints, name)
            return found.tensors["model"], found.state["step"]

        tensors, step = shared(self.accelerator, read)
        load_state(self.model, tensors)
        return step

    def _beats(self, name: str, step: int, found: Evaluation) -> bool:
        score = [found.robust_accuracy, found.clean_accuracy]
        score = score if self.config.by_robustness else score[::-1]
        if score <= self.kept[name]["score"]:
            return False
        self.kept[name] = {"score": score, "step": step}
        return True
