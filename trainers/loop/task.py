"""One kind of training, as the loop sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from rich.console import Console
from torch import Tensor

from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.loop.averages import Average
from robustsabn.trainers.loop.updates import Update
from robustsabn.trainers.processes.distributed import Network
from robustsabn.trainers.runs.measured import Measured
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.results import C, M, Results

if TYPE_CHECKING:
    from robustsabn.trainers.loop.run import Run
    from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["C", "M", "Measured", "Task"]


class Task(ABC, Generic[C, M]):
    """Networks, their updates, and what a step and an evaluation are; the loop does everything else.

    A task writes no file, counts no step and touches no optimiser's state by itself. Whatever is random in a
    step is a function of (seed, step), so that a run resumes exactly.
    """

    config: ClassVar[type[RunConfig]]
    """The keys of its recipes."""
    results: ClassVar[Results[Any, Any]]
    """How its ended runs are read, compared and shown on a page."""

    networks: Mapping[str, Network]
    """By name, as `Run.prepare` gives them: saved in every checkpoint."""
    updates: Mapping[str, Update]
    """By name, as `Run.prepare` gives them: each optimiser is saved in every checkpoint."""
    averages: Mapping[str, Average] = {}
    """Averages of weights by the names of their checkpoints, evaluated and kept besides."""
    steps_per_epoch: int
    remedy: ClassVar[str] = "lower optim.lr, set optim.clip, or train in fp32"
    """What may help where a loss is not finite."""

    @abstractmethod
    def __init__(self, run: Run[C]) -> None:
        """Build networks and updates; refuse, by an error in words, what cannot be trained."""

    @abstractmethod
    def start(self, step: int, total: int, monitor: Monitor) -> None:
        """Training goes on from step `step` (from 0) of `total`: open the batches there."""

    @abstractmethod
    def step(self, step: int) -> dict[str, Tensor]:
        """Forwards, backwards and updates of step `step`; scalars to log, `loss` among them, on the
        device.
        """

    @abstractmethod
    def validate(self, step: int, kind: str, heading: str) -> M:
        """Evaluate while training, after `step` steps; `kind` is "validation" or the name of an average,
        then in place.
        """

    @abstractmethod
    def score(self, found: M) -> list[float]:
        """How good that is, larger is better, ties by the next number: the checkpoint `best` has the
        highest.
        """

    @abstractmethod
    def close(self, step: int, kind: str, heading: str) -> M:
        """The closing evaluation; `kind` is "test", or "test_NAME" of the last or of averaged weights."""

    @classmethod
    def read_closing(cls, records: Sequence[Record], kind: str, before: C, now: C) -> M | None:
        """The closing evaluation `kind` of a run that has ended, from its records; None where it has to be
        done (again).

        `before` configured the run so far, `now` asks for its table.
        """
        found: M | None = cls.results.closing(records, kind)
        return found

    @classmethod
    def show_closing(cls, found: M, heading: str, console: Console) -> None:
        """Print what `read_closing` gave."""
        console.print(cls.results.table(found, heading))
        if found.warning:
            console.print(f"warning: {found.warning}", markup=False)

    def facts(self) -> dict[str, Any]:
        """What else it takes to load the networks, for JSON."""
        return {}

    def notes(self) -> list[str]:
        """Lines for the reader before the first step."""
        return []

    def carried(self) -> dict[str, Tensor]:
        """What is kept from step to step besides, this process's share (n, ...) of each."""
        return {}

    def restore(self, carried: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        """Take up what was carried, (N, ...) of all processes, of a checkpoint with `state`; a line if it
        begins anew.
        """
        return ""

    def saved(self) -> None:
        """A checkpoint was written: what a resumed run would make anew is made anew."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of step `step`, to be kept where its loss is not finite."""
        return {}
