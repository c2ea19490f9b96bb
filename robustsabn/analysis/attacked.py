"""The same images under one attack after another, and signs of masked gradients in what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.attacks.losses import cross_entropy
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.model.verify import logits_in_batches
from robustsabn.report.numbers import percent
from robustsabn.text import counted

__all__ = [
    "TOLERATED",
    "Images",
    "SweepPoint",
    "Verdicts",
    "accuracy",
    "broken_only_by",
    "fewer_steps",
    "grey_radius",
    "points",
    "widened",
]

TOLERATED = 0.01
"""Share of the images that chance, such as that of the random start, may decide."""


class SweepPoint(NamedTuple):
    """Mean cross entropy and accuracy in [0, 1] under PGD with one setting."""

    setting: float
    loss: float
    accuracy: float


class Verdicts(NamedTuple):
    """Cross entropy and whether the prediction is wrong, each (N,)."""

    loss: Tensor
    broken: Tensor


class Images(NamedTuple):
    """Images x (N, ...) and labels y (N,); `done` is told how many gradients of images each batch took."""

    x: Tensor
    y: Tensor
    seed: int
    batch_size: int
    done: Callable[[int], None] = lambda gradients: None

    def made(self, model: Model, attack: PGD) -> Tensor:
        """The images of an attack, whose random starts are those of `seed`."""
        generator = torch.Generator(self.x.device).manual_seed(self.seed)
        made = []
        for x, y in zip(*(torch.split(t, self.batch_size) for t in (self.x, self.y)), strict=True):
            made.append(attack(model, x, y, generator=generator))
            self.done(attack.steps * len(x))
        return torch.cat(made)

    def verdicts(self, model: Model, x_adv: Tensor) -> Verdicts:
        logits = logits_in_batches(model, x_adv, self.batch_size)
        return Verdicts(cross_entropy(logits, self.y), logits.argmax(1) != self.y)

    def after_noise(self, model: Model, threat: ThreatModel, count: int) -> Tensor:
        """Bool (N,): the image itself or one of `count` random ones in the ball is misclassified."""
        generator = torch.Generator(self.x.device).manual_seed(self.seed + 1)
        drawn = (threat.random_start(self.x, "uniform", generator) for _ in range(count))
        return torch.stack([self.verdicts(model, x).broken for x in (self.x, *drawn)]).any(0)


def widened(threat: ThreatModel, x: Tensor, factors: Sequence[float]) -> dict[float, ThreatModel]:
    """Threat models of `factors` times the radius, and one whose balls all have the grey image in them."""
    low, high = threat.bounds
    order = {"Linf": math.inf, "L2": 2.0, "L1": 1.0}[threat.norm]
    grey = (high - low) / 2 * math.prod(x.shape[1:]) ** (1 / order)
    radii = [factor * threat.eps_max for factor in factors]
    return {r: ThreatModel(threat.norm, r, threat.bounds) for r in (*(r for r in radii if r < grey), grey)}


def accuracy(broken: Tensor) -> float:
    """The share of images that are not broken, bool (N,)."""
    return 1 - int(broken.sum()) / len(broken)


def points(verdicts: Mapping[float, Verdicts]) -> tuple[SweepPoint, ...]:
    """A point for each setting."""
    return tuple(
        SweepPoint(float(setting), one.loss.mean().item(), accuracy(one.broken))
        for setting, one in verdicts.items()
    )


def fewer_steps(steps: Sequence[SweepPoint]) -> list[str]:
    """A sentence if the fewest steps break more images than the most, which only masked gradients do."""
    few, many = steps[0], steps[-1]
    if few.accuracy >= many.accuracy - TOLERATED:
        return []
    text = (
        f"{counted(int(few.setting), 'step')} of PGD leave {percent(few.accuracy, 1)} and "
        f"{many.setting:g} steps {percent(many.accuracy, 1)}: more steps break fewer images"
    )
    return [text]


def grey_radius(widest: SweepPoint, most: float) -> list[str]:
    """A sentence if accuracy stays above `most`, the share of the most frequent label, at this radius.

    Its setting is in multiples of eps.
    """
    if widest.accuracy <= most + TOLERATED:
        return []
    text = (
        f"with a radius of {widest.setting:.3g} eps, where every image can become grey, accuracy is "
        f"{percent(widest.accuracy, 1)}; at most {percent(most, 1)} is possible"
    )
    return [text]


def broken_only_by(count: int, source: str, n: int) -> list[str]:
    """A sentence if `source` broke more of n images that PGD did not than chance does."""
    chance = max(1, TOLERATED * n)
    return [f"{source} broke {counted(count, 'image')} that PGD did not"] if count > chance else []
