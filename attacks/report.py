"""What an evaluation found, as data: verdicts per sample, cost per attack, flags."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robustsabn.files import write_text

__all__ = ["FRAGILE", "AttackCost", "Flag", "Report"]

FRAGILE = 1e-4
"""Margins of at most this size may change sign with another order of float32 sums."""


@dataclass(frozen=True)
class AttackCost:
    """One attack: points given to it, points it broke, robust accuracy in [0, 1] after it, and what it cost.

    `forwards` and `backwards` count images that the search sent through the network for these points, `checks` those
    that went through the model to verify claims of success, with those of a random model's final verdicts; rows that fill a batch up are
    not counted. `seconds` is wall time.
    """

    name: str
    points: int
    broken: int
    robust_accuracy: float
    forwards: int
    backwards: int
    seconds: float
    checks: int = 0


@dataclass(frozen=True)
class Flag:
    """A finding: how many samples, which (`ids`, none where it is about the whole model), and in words.

    A `warning` says that the robust accuracy may not be believed, a `note` explains a number.
    """

    name: str
    severity: Literal["warning", "note"]
    count: int
    ids: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class Report:
    """Verdicts of one evaluation; tensors have one row per sample, in the order of `ids`, on the CPU.

    `clean` and `robust` (N,) bool: the label is predicted on the clean image; and no attack changed that.
    `x_adv` (N, ...): the adversarial image of a broken sample, else the clean image.
    `broken_by` (N,): index into `attacks`, -1 for none. `target`: the class aimed at, -1 for none. `iteration`:
    evaluations of the breaking run when it broke, -1 for none.
    `margin` (N,): z_y - max_{j != y} z_j on `x_adv` by the untouched model in float32. `distance` (N,):
    ||x_adv - x||. `fragile` (N,): the margin is within 1e-4 of zero. `seconds`: wall time in all, with
    what earlier sessions of a resumed evaluation spent on work that was kept. `draws`: the fewest and the most answers
    of the model behind a verdict; above 1 it is a majority, `margin` the median and the predictions the usual ones.
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
        """95 % interval of the robust accuracy of the distribution that the n samples came from.

        Clopper and Pearson, Biometrika 1934: exact for a binomial count.
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
        """Write `to_dict` to `path`, aside first and then renamed."""
        write_text(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def same_verdicts(self, other: "Report") -> bool:
        """Equal samples, verdicts, and adversarial images, bit for bit."""
        names = ("ids", "clean", "robust", "broken_by", "target", "iteration", "x_adv")
        return all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)
