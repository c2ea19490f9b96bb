"""One run: everything a task needs to build itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from robustsabn.trainers.checkpoints.resume import ResumePoint
from robustsabn.trainers.config import Optim, RunConfig, Schedule
from robustsabn.trainers.loop.draws import generator
from robustsabn.trainers.loop.updates import Update
from robustsabn.trainers.processes.distributed import Network, prepare
from robustsabn.trainers.processes.signals import Signals
from robustsabn.trainers.runs.folder import RunFolder

__all__ = ["Run"]

C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Run(Generic[C]):
    """Configuration, processes, folder and signals of a run, and the checkpoint that it resumes from."""

    config: C
    accelerator: Accelerator
    folder: RunFolder
    signals: Signals
    resumed: ResumePoint | None = None

    @property
    def fresh(self) -> bool:
        """Whether the run starts from the beginning instead of a checkpoint."""
        return self.resumed is None

    def prepare(
        self, models: Mapping[str, nn.Module], optimizers: Mapping[str, tuple[Optimizer, Optim, Schedule]]
    ) -> tuple[dict[str, Network], dict[str, Update]]:
        """Networks and updates on the device; gradients are averaged over the processes.

        Each optimizer comes with its configuration and schedule.
        """
        networks, prepared = prepare(self.accelerator, models, {n: o for n, (o, _, _) in optimizers.items()})
        updates = {
            name: Update(self.accelerator, prepared[name], config, schedule, networks)
            for name, (_, config, schedule) in optimizers.items()
        }
        return networks, updates

    def share(self, batch_size: int) -> slice:
        """The rows of a whole batch that belong to this process."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def draw(
        self, batch_size: int, purpose: str, step: int, make: Callable[[int, torch.Generator], Tensor]
    ) -> Tensor:
        """This process's rows of `make(batch_size, generator)`, drawn for the whole batch: (n, ...).

        The draw depends only on (seed, purpose, step), not on the number of processes.
        """
        source = generator(self.accelerator.device, self.config.seed, purpose, step)
        return make(batch_size, source)[self.share(batch_size)]
