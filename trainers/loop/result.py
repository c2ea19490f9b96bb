"""The result of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from robustsabn.report.shown import Shown
from robustsabn.trainers.loop.task import M

__all__ = ["RunResult"]


@dataclass(frozen=True, kw_only=True, repr=False)
class RunResult(Shown, Generic[M]):
    """The result of a run.

    - folder: the run folder; steps: number of steps; best_step: step of the best checkpoint.
    - evaluation: the final evaluation of the best checkpoint; last: that of the last one, if it is another.
    - averages: final evaluations of averaged weights, by name ("ema", "swa").

    Example:

        >>> from pathlib import Path
        >>> from robustsabn.trainers import RunResult
        >>> result = RunResult(folder=Path("runs/tiny"), steps=100, best_step=80, evaluation=None)
        >>> result.best_step < result.steps, result.averages
        (True, {})
    """

    folder: Path
    steps: int
    best_step: int
    evaluation: M
    last: M | None = None
    averages: dict[str, M] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        best = f"{self.folder}, step {self.best_step} of {self.steps}"
        return best if self.evaluation is None else f"{best}: {self.evaluation.summary}"

    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        measured = {"best": self.evaluation, "last": self.last, **self.averages}
        known = {name: each.numbers() for name, each in measured.items() if each is not None}
        head = list(dict.fromkeys(number for numbers in known.values() for number in numbers))
        rows = [[name, *map(numbers.get, head)] for name, numbers in known.items()]
        return ["checkpoint", *head], rows
