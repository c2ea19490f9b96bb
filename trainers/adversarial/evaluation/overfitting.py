"""Two ways in which training loses robustness, read from the validations that a run has recorded.

Catastrophic: the network comes to withstand one step of an attack and nothing else, within an epoch and
without a sign in its losses. Wong et al., ICLR 2020, section 5; Andriushchenko and Flammarion, NeurIPS 2020.
Robust: accuracy under attack rises on training images and falls on others. Rice et al., ICML 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from robustsabn.trainers.adversarial.evaluation.metrics import robust_course
from robustsabn.trainers.runs.metrics import Record

__all__ = ["Reading", "begins", "collapse", "collapsed", "course", "decline"]

LOST = 0.03  # of robust accuracy; less is within the noise of a thousand images


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A validation: accuracies in [0, 1] through the last route, None where they were not measured."""

    step: int
    robust: float
    fgsm: float | None = None
    train_robust: float | None = None
    collapsed: bool = False


def course(found: Sequence[Record]) -> list[Reading]:
    """The validations among the records of a metrics.jsonl, in their order."""
    validations = [record for record in found if record["kind"] == "validation"]
    return [
        Reading(
            step=record["step"],
            robust=robust,
            fgsm=record.get("fgsm"),
            train_robust=record.get("train_robust"),
            collapsed=record.get("collapsed", False),
        )
        for record, (_, robust) in zip(validations, robust_course(validations), strict=True)
    ]


def collapsed(robust: float, fgsm: float) -> bool:
    """Whether PGD accuracy `robust` is below half of FGSM accuracy, and more than 0.2 below it.

    Sound networks have nine tenths of it (CIFAR-10 at 8/255), about six tenths at worst (`digits` at 0.15);
    collapsed ones next to nothing, with FGSM accuracy as high as before or higher. That stands for the best
    that PGD accuracy has been, so no history decides, and a collapse before the first validation is seen. 0.2
    is the fall at which Wong et al. stop.
    """
    return robust < fgsm / 2 and fgsm - robust > 0.2


def begins(points: Sequence[Reading]) -> bool:
    """Whether the last of the validations so far is the first of a collapse."""
    return any(point.collapsed for point in points[-1:]) and not any(p.collapsed for p in points[-2:-1])


def collapse(points: Sequence[Reading], kept: bool) -> str | None:
    """When the network last collapsed, and what to do; None for one that never did. `kept`: best is by
    robust accuracy.
    """
    onsets = [i for i in range(len(points)) if begins(points[: i + 1])]
    if not onsets:
        return None
    here, before = points[onsets[-1]], points[: onsets[-1]]
    said = (
        f"at step {here.step} accuracy is {_percent(here.fgsm)} under one step (FGSM) and "
        f"{_percent(here.robust)} under PGD"
    )
    best = max(before, key=lambda point: point.robust, default=here)
    if best.robust > here.robust:
        said += f", which was {_percent(best.robust)} at step {best.step}"
        said += "; the best checkpoint is from before" if kept else ""
    return (
        f"{said}. Train with method=n-fgsm, method=gradalign or more steps, such as method=pgd attack.steps=2"
    )


def decline(points: Sequence[Reading], kept: bool) -> str | None:
    """How far robust accuracy ended below its best, and above it on training images; None where that is
    within noise.
    """
    best = max(points, key=lambda point: point.robust, default=None)
    if best is None or best.robust - points[-1].robust < LOST:
        return None
    last = points[-1]
    said = (
        f"robust validation accuracy was best at step {best.step} with {_percent(best.robust)} and ended at "
        f"{_percent(last.robust)}: {100 * (best.robust - last.robust):.1f} points lost"
    )
    if last.train_robust is not None:
        said += f", while it ended at {_percent(last.train_robust)} on training images"
    return said + ("; the best checkpoint is the one kept" if kept else "")


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
