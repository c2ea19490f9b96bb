"""The result of a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from robustsabn.trainers.loop.task import M

__all__ = ["RunResult"]


@dataclass(frozen=True, kw_only=True)
class RunResult(Generic[M]):
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
