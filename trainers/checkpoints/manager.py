"""The checkpoints of a run: what they contain, which are kept, how they are restored.

`best` has the weights with the highest score. Each average of the weights has a checkpoint of its own name,
also with the highest score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import robustsabn.config
from robustsabn.errors import CheckpointError
from robustsabn.files import require_space
from robustsabn.state_versions import load_state
from robustsabn.text import one_line
from robustsabn.trainers.checkpoints import files
from robustsabn.trainers.checkpoints.changes import digest
from robustsabn.trainers.config import AdamW, RunConfig
from robustsabn.trainers.processes.distributed import gathered, restore_statistics, shared

if TYPE_CHECKING:
    from robustsabn.trainers.checkpoints.resume import ResumePoint
    from robustsabn.trainers.loop.run import Run
    from robustsabn.trainers.loop.task import Measured, Task

__all__ = ["CheckpointManager"]

Statistics = dict[str, dict[str, Tensor]]
"""Running statistics of every process, (processes, ...) by name, for each network."""


class CheckpointManager:
    """Saves and restores the networks, updates and averages of a task."""

    def __init__(self, run: Run[Any], task: Task[Any, Any]) -> None:
        self.config, self.accelerator, self.folder = run.config, run.accelerator, run.folder.checkpoints
        self.task = task
        self.resolved = self.resolve(run.config)
        self.kept: dict[str, dict[str, Any]] = {
            name: {"score": [], "step": -1} for name in ("best", *task.averages)
        }

    def resolve(self, config: RunConfig) -> str:
        """The text of config.yaml."""
        return robustsabn.config.dump(replace(config, out=str(self.folder.parent)))

    def save(self, step: int, epoch: float, evaluations: Mapping[str, Measured], own: Statistics) -> None:
        """Save the run after `step` steps as `last`, and as each name with a new best score.

        `evaluations` are by name. `own` are the running statistics to resume with, if those of the processes
        differ.
        """
        better = [name for name, measured in evaluations.items() if self._beats(name, step, measured)]
        carried = {name: gathered(self.accelerator, value) for name, value in self.task.carried().items()}
        state = self._state(step, epoch, evaluations)
        shared(self.accelerator, lambda: self._write(state, better, own, carried))
        self.accelerator.wait_for_everyone()

    def _write(
        self, state: dict[str, Any], better: list[str], own: Statistics, carried: dict[str, Tensor]
    ) -> None:
        tensors = self._networks()
        for name, update in self.task.updates.items():
            tensors[_named("optimizer", name)] = files.optimizer_tensors(update.optimizer)
        if carried:
            tensors["method"] = carried
        tensors |= {_named("statistics", name): each for name, each in own.items() if each}
        for name, average in self.task.averages.items():
            tensors[name] = average.values
            if name in better:
                with average.in_place():
                    files.write(self.folder, files.Checkpoint(self._networks(), state), (name,))
        names = ("last", "best") if "best" in better else ("last",)
        files.write(self.folder, files.Checkpoint(tensors, state), names)

    def restore(self, resumed: ResumePoint) -> tuple[int, str]:
        """Restore everything; returns the step and a line about what could not be restored, or "".

        Raises CheckpointError if the tensors do not fit this run.
        """
        try:
            return self._restore(resumed)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} does not fit this run ({one_line(error)}); has the model's "
                "code changed since?"
            ) from error

    def _restore(self, resumed: ResumePoint) -> tuple[int, str]:
        tensors, state = resumed.stored.tensors, resumed.stored.state
        for name, network in self.task.networks.items():
            load_state(network.raw, tensors[name])
            own = tensors.get(_named("statistics", name), {})
            restore_statistics(self.accelerator, network.raw, own)
        for name, update in self.task.updates.items():
            files.restore_optimizer(update.optimizer, tensors[_named("optimizer", name)])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for name, average in self.task.averages.items():
            average.load(tensors.get(name), state.get("averages", {}).get(name))
        for name in self.kept:
            if state.get(name, {}).get("step", -1) >= 0 and name not in resumed.damaged:
                self.kept[name] = state[name]
        return state["step"], self.task.restore(tensors.get("method", {}), state)

    def weights(self, name: str) -> int:
        """Load the weights saved as `name` into the networks and return their step.

        Raises CheckpointError if they are damaged.
        """

        def read() -> tuple[dict[str, files.Tensors], int]:
            stored = files.read(self.folder, name)
            return {own: stored.tensors[own] for own in self.task.networks}, stored.state["step"]

        tensors, step = shared(self.accelerator, read)
        for own, network in self.task.networks.items():
            load_state(network.raw, tensors[own])
        return step

    def check_space(self) -> None:
        """Raise WriteError unless the disk has room for all checkpoints and a temporary one."""
        weights = sum(
            t.numel() * t.element_size() for each in self._networks().values() for t in each.values()
        )
        moments = sum(
            (2 if isinstance(update.config, AdamW) else 1) * p.numel() * p.element_size()
            for update in self.task.updates.values()
            for p in update.parameters
        )
        averages = len(self.task.averages)
        whole = weights * (1 + averages) + moments
        existing = sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors"))
        require_space(self.folder.parent, max(4 * whole + weights * averages - existing, whole))

    def _networks(self) -> dict[str, files.Tensors]:
        return {name: network.raw.state_dict() for name, network in self.task.networks.items()}

    def _state(self, step: int, epoch: float, evaluations: Mapping[str, Measured]) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "step": step,
            "epoch": epoch,
            **self.kept,
            "averages": {name: average.counts for name, average in self.task.averages.items()},
            "validation": {name: measured.to_dict() for name, measured in evaluations.items()},
            **self.task.facts(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "config": robustsabn.config.to_dict(self.config),
            "config_file": digest(self.resolved),
        }

    def _beats(self, name: str, step: int, measured: Measured) -> bool:
        score = self.task.score(measured)
        if score <= self.kept[name]["score"]:
            return False
        self.kept[name] = {"score": score, "step": step}
        return True


def _named(what: str, name: str) -> str:
    """The file name for `what` of network `name`; the one network of a classifier adds no name."""
    return what if name == "model" else f"{what}-{name}"
