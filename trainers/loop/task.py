"""The interface between a kind of training and the loop."""

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
    """One kind of training: its networks, updates, training step and evaluation; the loop does the rest.

    A task writes no file, counts no steps and changes no optimiser state itself. All randomness of a step
    must depend only on (seed, step), so that a run resumes exactly.
    """

    config: ClassVar[type[RunConfig]]
    """The configuration class, which defines the keys of its recipes."""
    results: ClassVar[Results[Any, Any]]
    """How finished runs are read, compared and shown on a page."""

    networks: Mapping[str, Network]
    """Networks by name, from `Run.prepare`; saved in every checkpoint."""
    updates: Mapping[str, Update]
    """Updates by name, from `Run.prepare`; every checkpoint saves their optimisers."""
    averages: Mapping[str, Average] = {}
    """Averaged weights by the name of their checkpoint; evaluated and saved too."""
    steps_per_epoch: int
    remedy: ClassVar[str] = "lower optim.lr, set optim.clip, or train in fp32"
    """Advice in the error message of a loss that is not finite."""

    following: ClassVar[tuple[str, ...]] = ("report", "RUN")
    """The command that a finished run proposes, with RUN for its folder."""

    @abstractmethod
    def __init__(self, run: Run[C]) -> None:
        """Build networks and updates.

        Raises one of the project's errors if the configuration cannot be trained.
        """

    @abstractmethod
    def start(self, step: int, total: int, monitor: Monitor) -> None:
        """Open the batches at step `step` (from 0) of `total`, where training starts or resumes."""

    @abstractmethod
    def step(self, step: int) -> dict[str, Tensor]:
        """Forward, backward and update of step `step`; returns scalars to log on the device, with `loss`."""

    @abstractmethod
    def validate(self, step: int, kind: str, heading: str) -> M:
        """Evaluate after `step` steps of training.

        `kind` is "validation", or the name of an average whose weights are then in the model.
        """

    @abstractmethod
    def score(self, measured: M) -> list[float]:
        """The quality of an evaluation: larger is better, further numbers break ties.

        The checkpoint `best` has the highest score.
        """

    def analysed(self, count: int) -> Record:
        """What the routes do on `count` images, measured at each validation if `analysis` is set."""
        raise NotImplementedError

    @abstractmethod
    def close(self, step: int, kind: str, heading: str) -> M:
        """The closing evaluation; `kind` is "test", or "test_NAME" for the last or averaged weights."""

    @classmethod
    def read_closing(cls, records: Sequence[Record], kind: str, before: C, now: C) -> M | None:
        """The closing evaluation `kind` of a finished run, from its records; None if it must be done again.

        `before` is the configuration of the run so far, `now` the one that is requested.
        """
        measured: M | None = cls.results.closing(records, kind)
        return measured

    @classmethod
    def show_closing(cls, measured: M, heading: str, console: Console) -> None:
        """Print an evaluation that `read_closing` returned."""
        console.print(cls.results.table(measured, heading))
        if measured.warning:
            console.print(f"warning: {measured.warning}", markup=False)

    def facts(self) -> dict[str, Any]:
        """More that is needed to load the networks, as JSON."""
        return {}

    def data_sha256(self) -> dict[str, str]:
        """SHA-256 of the data sets as they are used, by the key of their specification, for the page."""
        return {}

    def notes(self) -> list[str]:
        """Lines to print before the first step."""
        return []

    def carried(self) -> dict[str, Tensor]:
        """Further tensors to keep from step to step: this process's share (n, ...) of each."""
        return {}

    def restore(self, carried: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        """Restore the tensors `carried`, (N, ...) of all processes, from a checkpoint with `state`.

        Returns a line for the user if they have to start from the beginning, else "".
        """
        return ""

    def saved(self) -> None:
        """Called after each checkpoint; rebuild here whatever a resumed run would rebuild."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of step `step`, which is saved if its loss is not finite."""
        return {}
