"""The result of an evaluation as data: verdicts per sample, cost per attack, flags."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robustsabn.files import write_text
from robustsabn.report.numbers import eps_text, percent
from robustsabn.report.shown import Shown, frame

__all__ = ["FRAGILE", "AttackCost", "Flag", "ProgressEvent", "Report"]

FRAGILE = 1e-4
"""A margin of at most this size may change its sign when float32 sums run in another order."""


@dataclass(frozen=True, kw_only=True)
class AttackCost:
    """What one attack did and cost.

    - points, broken: images it attacked, and how many of them it changed to a wrong prediction.
    - robust_accuracy: in [0, 1], after this attack.
    - forwards, backwards: images that the search sent through the network; rows that only fill a batch do not
      count.
    - seconds: wall time.
    - checks: images sent through the model to verify claimed successes, and for the final verdicts on a
      random model.

    Example:

        >>> from robustsabn.attacks import AttackCost
        >>> cost = AttackCost(
        ...     name="fab-t", points=100, broken=3, robust_accuracy=0.47,
        ...     forwards=900, backwards=900, seconds=1.5,
        ... )
        >>> f"{cost.broken} of {cost.points} points broken, robust accuracy {cost.robust_accuracy:.0%}"
        '3 of 100 points broken, robust accuracy 47%'
    """

    name: str
    points: int
    broken: int
    robust_accuracy: float
    forwards: int
    backwards: int
    seconds: float
    checks: int = 0


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A finding of an evaluation, in words.

    - severity: a "warning" says that the robust accuracy may be wrong; a "note" explains a number.
    - count, ids: the samples that it concerns; no ids where it concerns the whole model.

    Example:

        >>> from robustsabn.attacks import Flag
        >>> flag = Flag(
        ...     name="zero-gradient", severity="warning", count=2, ids=(5, 9),
        ...     message="the gradient is zero on 2 images",
        ... )
        >>> f"{flag.severity}: {flag.message}"
        'warning: the gradient is zero on 2 images'
    """

    name: str
    severity: Literal["warning", "note"]
    count: int
    ids: tuple[int, ...]
    message: str


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """The progress of an evaluation, over all processes together.

    - attack, index, attacks: name and number of the current attack, and how many there are.
    - left, total: points that this attack has still to finish, and all of its points.
    - robust, n: points that are still robust, and all points of the evaluation.
    - seconds: wall time of this attack so far.
    - done, work: iterations of this attack over all points, so far and at most; a point that ends early
      counts as whole. 0 if unknown.

    Example:

        >>> from robustsabn.attacks import ProgressEvent
        >>> event = ProgressEvent(
        ...     attack="apgd-t", index=1, attacks=4, left=30, total=90, robust=85, n=100, seconds=2.5
        ... )
        >>> f"{event.attack}: {event.total - event.left} of {event.total} points done"
        'apgd-t: 60 of 90 points done'
    """

    attack: str
    index: int
    attacks: int
    left: int
    total: int
    robust: int
    n: int
    seconds: float
    done: int = 0
    work: int = 0


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """Verdicts of one evaluation; tensors have one row per sample, in the order of `ids`, on the CPU.

    - norm, eps, bounds: the threat model, eps in image units.
    - clean, robust (N,) bool: the clean image is classified correctly; and no attack changed that.
    - x_adv (N, ...): the adversarial image of a broken sample, else the clean image.
    - clean_prediction, adversarial_prediction (N,): predicted classes on the clean image and on `x_adv`.
    - broken_by (N,): index into `attacks`; target (N,): the class that this attack aimed at; iteration (N,):
      the step of the run at which it succeeded. Each is -1 where there is none.
    - margin (N,): z_y - max_{j != y} z_j on `x_adv`, by the original model in float32.
    - distance (N,): ||x_adv - x||. fragile (N,) bool: the margin is within 1e-4 of zero.
    - seconds: wall time in all; after a resume it includes the earlier work that was kept.
    - draws: the smallest and largest number of forwards behind one verdict. Above 1 the model is random:
      verdicts are by majority, margins are medians, and predictions are the most frequent ones.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import AutoAttack, ThreatModel
        >>> model = torch.nn.Linear(4, 3).requires_grad_(False)
        >>> x = torch.rand(8, 4)
        >>> y = model(x).argmax(1)
        >>> report = AutoAttack(ThreatModel("L2", 1e-6), version="custom", attacks=["apgd-ce"])(model, x, y)
        >>> report.n, report.clean_accuracy, sorted(report.to_dict())[:3]
        (8, 1.0, ['attacks', 'backwards', 'bounds'])
    """

    norm: str
    eps: float
    bounds: tuple[float, float]
    version: str
    seed: int
    classes: int
    ids: Tensor
    y: Tensor
    clean: Tensor
    robust: Tensor
    x_adv: Tensor
    clean_prediction: Tensor
    adversarial_prediction: Tensor
    broken_by: Tensor
    target: Tensor
    iteration: Tensor
    margin: Tensor
    distance: Tensor
    fragile: Tensor
    attacks: tuple[AttackCost, ...]
    flags: tuple[Flag, ...]
    seconds: float
    versions: dict[str, str]
    engine: str = "robustsabn"
    draws: tuple[int, int] = (1, 1)

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def clean_accuracy(self) -> float:
        return int(self.clean.sum()) / self.n

    @property
    def robust_accuracy(self) -> float:
        return int(self.robust.sum()) / self.n

    @cached_property
    def confidence(self) -> tuple[float, float]:
        """95 % confidence interval of the robust accuracy, taking the samples as drawn at random.

        Exact for a binomial count. Source: Clopper and Pearson, Biometrika 1934.
        """
        from scipy.stats import binomtest

        interval = binomtest(int(self.robust.sum()), self.n).proportion_ci(0.95, method="exact")
        return float(interval.low), float(interval.high)

    @property
    def forwards(self) -> int:
        return sum(attack.forwards for attack in self.attacks)

    @property
    def backwards(self) -> int:
        return sum(attack.backwards for attack in self.attacks)

    @property
    def summary(self) -> str:
        rates = f"clean {percent(self.clean_accuracy)}, robust {percent(self.robust_accuracy)}"
        return f"{rates} of {self.n} images, {self.norm} eps {eps_text(self.eps)}, {self.version}"

    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        head = ("attack", "points", "broken", "robust_accuracy", "forwards", "backwards", "seconds")
        wrong = self.n - int(self.clean.sum())
        rows = [["clean images", self.n, wrong, self.clean_accuracy, self.n, 0, 0.0]]
        rows += [[getattr(cost, name) for name in ("name", *head[1:])] for cost in self.attacks]
        return head, rows

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row for each sample; MissingExtraError without pandas."""
        names = ("y", "clean", "robust", "clean_prediction", "adversarial_prediction")
        more = ("target", "iteration", "margin", "distance", "fragile")
        columns = [self.ids, *(getattr(self, name) for name in (*names, *more))]
        broken_by = [self.attacks[k].name if k >= 0 else None for k in self.broken_by.tolist()]
        rows = zip(*(column.tolist() for column in columns), broken_by, strict=True)
        return frame(("id", *names, *more, "broken_by"), list(rows))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tensors per sample, as plain values for JSON."""
        low, high = self.confidence
        return {
            "engine": self.engine,
            "norm": self.norm,
            "eps": self.eps,
            "bounds": list(self.bounds),
            "version": self.version,
            "seed": self.seed,
            "n": self.n,
            "classes": self.classes,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "robust_accuracy_95": [low, high],
            "fragile": self.ids[self.fragile].tolist(),
            "attacks": [asdict(attack) for attack in self.attacks],
            "flags": [{**asdict(flag), "ids": list(flag.ids)} for flag in self.flags],
            "forwards": self.forwards,
            "backwards": self.backwards,
            "seconds": self.seconds,
            "versions": dict(self.versions),
            "draws": list(self.draws),
        }

    def to_json(self, path: str | Path) -> None:
        """Write `to_dict` to the file `path`, as a whole or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def same_verdicts(self, other: "Report") -> bool:
        """Whether samples, verdicts and adversarial images are equal, bit for bit."""
        names = ("ids", "clean", "robust", "broken_by", "target", "iteration", "x_adv")
        return all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)
