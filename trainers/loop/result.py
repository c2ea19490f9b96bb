"""What a run ends with."""

from dataclasses import dataclass, field
from pathlib import Path

from robustsabn.trainers.adversarial.evaluation import Evaluation

__all__ = ["RunResult"]


@dataclass(frozen=True)
class RunResult:
    """What a run ends with: its folder, its length, the closing evaluations of the best checkpoint, of the last one where
    that is another, and, by name, of averaged weights."""

    folder: Path
    steps: int
    best_step: int
    evaluation: Evaluation
    last: Evaluation | None = None
    averages: dict[str, Evaluation] = field(default_factory=dict)
