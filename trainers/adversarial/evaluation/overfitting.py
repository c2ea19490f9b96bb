"""Detects two kinds of overfitting from the validations that a run has recorded.

Catastrophic overfitting: within one epoch, the network becomes robust to one-step attacks only, and its
losses do not show it. Wong et al., ICLR 2020, section 5; Andriushchenko and Flammarion, NeurIPS 2020.

Robust overfitting: accuracy under attack rises on training images and falls on others. Rice et al., ICML
2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from robustsabn.trainers.adversarial.evaluation.metrics import robust_course
from robustsabn.trainers.runs.metrics import Record

__all__ = ["Reading", "begins", "collapse", "collapsed", "course", "decline"]

LOST = 0.03  # of robust accuracy; less is within the noise of a thousand images


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A validation: accuracies in [0, 1] through the last route, None if not measured."""

    step: int
    robust: float
    fgsm: float | None = None
    train_robust: float | None = None
    collapsed: bool = False


def course(records: Sequence[Record]) -> list[Reading]:
    """The validations in the records of a metrics.jsonl, in order."""
    validations = [record for record in records if record["kind"] == "validation"]
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
    """Whether PGD accuracy `robust` is below half of FGSM accuracy `fgsm`, and more than 0.2 below it.

    Normal networks reach 0.9 of their FGSM accuracy under PGD (CIFAR-10 at 8/255), and about 0.6 at worst
    (`digits` at 0.15). Collapsed ones reach almost nothing, with FGSM accuracy as high as before or higher.
    FGSM accuracy serves as the reference instead of the best PGD accuracy so far, so a collapse before the
    first validation is detected too. 0.2 is the drop at which Wong et al. stop.
    """
    return robust < fgsm / 2 and fgsm - robust > 0.2


def begins(points: Sequence[Reading]) -> bool:
    """Whether the last of these validations is the first one of a collapse."""
    return any(point.collapsed for point in points[-1:]) and not any(p.collapsed for p in points[-2:-1])


def collapse(points: Sequence[Reading], kept: bool) -> str | None:
    """When the network last collapsed and what to do, or None if it never did.

    `kept`: the best checkpoint is chosen by robust accuracy.
    """
    onsets = [i for i in range(len(points)) if begins(points[: i + 1])]
    if not onsets:
        return None
    onset, before = points[onsets[-1]], points[: onsets[-1]]
    text = (
        f"at step {onset.step} accuracy is {_percent(onset.fgsm)} under one step (FGSM) and "
        f"{_percent(onset.robust)} under PGD"
    )
    best = max(before, key=lambda point: point.robust, default=onset)
    if best.robust > onset.robust:
        text += f", which was {_percent(best.robust)} at step {best.step}"
        text += "; the best checkpoint is from before that step" if kept else ""
    return (
        f"{text}. Train with method=n-fgsm, method=gradalign or more steps, such as method=pgd attack.steps=2"
    )


def decline(points: Sequence[Reading], kept: bool) -> str | None:
    """How far robust accuracy ended below its best, or None if that is within noise.

    Also states the accuracy on training images, if measured. `kept` as in `collapse`.
    """
    best = max(points, key=lambda point: point.robust, default=None)
    if best is None or best.robust - points[-1].robust < LOST:
        return None
    last = points[-1]
    text = (
        f"robust validation accuracy was best at step {best.step} with {_percent(best.robust)} and ended at "
        f"{_percent(last.robust)}: {100 * (best.robust - last.robust):.1f} points lost"
    )
    if last.train_robust is not None:
        text += f", while it ended at {_percent(last.train_robust)} on training images"
    return text + ("; the best checkpoint is the one kept" if kept else "")


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
