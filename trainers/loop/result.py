"""What a run ends with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from robustsabn.trainers.loop.task import M

__all__ = ["RunResult"]


@dataclass(frozen=True)
class RunResult(Generic[M]):
    """What a run ends with: its folder, its length, the closing evaluations of the best checkpoint, of the last one
    where that is another, and, by name, of averaged weights."""

    folder: Path
    steps: int
    best_step: int
    evaluation: M
    last: M | None = None
    averages: dict[str, M] = field(default_factory=dict)
