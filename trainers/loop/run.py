"""One run: what a task is handed to build itself from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from robustsabn.trainers.checkpoints.resume import Found
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
    """Configuration, processes, folder and signals of a run, and the checkpoint that it goes on from."""

    config: C
    accelerator: Accelerator
    folder: RunFolder
    signals: Signals
    found: Found | None = None

    @property
    def fresh(self) -> bool:
        """Whether it begins, rather than goes on."""
        return self.found is None

    def prepare(
        self, models: Mapping[str, nn.Module], optimizers: Mapping[str, tuple[Optimizer, Optim, Schedule]]
    ) -> tuple[dict[str, Network], dict[str, Update]]:
        """Networks and updates on the device, with gradients that are averaged over the processes.

        `optimizers` are given with their configurations and schedules.
        """
        networks, prepared = prepare(self.accelerator, models, {n: o for n, (o, _, _) in optimizers.items()})
        updates = {
            name: Update(self.accelerator, prepared[name], config, schedule, networks)
            for name, (_, config, schedule) in optimizers.items()
        }
        return networks, updates

    def share(self, batch_size: int) -> slice:
        """Which rows of a whole batch are this process's."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def draw(
        self, batch_size: int, purpose: str, step: int, make: Callable[[int, torch.Generator], Tensor]
    ) -> Tensor:
        """This process's share of what `make(batch_size, generator)` draws for a whole batch, (batch_size,
        ...).

        It is a function of (seed, purpose, step), whatever the number of processes.
        """
        source = generator(self.accelerator.device, self.config.seed, purpose, step)
        return make(batch_size, source)[self.share(batch_size)]
