"""The loop of projected gradient ascent on one batch."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from robustsabn.attacks.best import Best
from robustsabn.attacks.inputs import usable
from robustsabn.attacks.logits import Gate, value_and_gradient
from robustsabn.attacks.losses import Loss
from robustsabn.attacks.outputs import looks_like
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["Ascent", "Batch"]


class Batch(NamedTuple):
    """Images x, labels y, what the loss compares logits with (y, or clean logits), step size, threat model."""

    x: Tensor
    y: Tensor
    goal: Tensor
    size: Tensor
    threat: ThreatModel

    def select(self, index: Tensor) -> "Batch":
        """The samples `index`."""
        size = self.size[index] if self.size.ndim else self.size
        return Batch(self.x[index], self.y[index], self.goal[index], size, self.threat.select(index))


@dataclass(frozen=True)
class Ascent:
    """Options of the loop; see `PGD`."""

    logits_of: Gate
    loss: Loss
    targeted: bool
    steps: int
    keep_best: bool
    early_stop: bool
    fraction: float
    scale: float = 1.0
    check: bool = True

    def value(self, logits: Tensor, goal: Tensor) -> Tensor:
        """What is maximised, (N,)."""
        value = self.loss(logits, goal)
        if value.shape != logits.shape[:1]:
            raise InputError(
                f"the loss returns shape {tuple(value.shape)} for {logits.shape[0]} samples; allowed is one value "
                "per sample: reduction='none'"
            )
        return -value if self.targeted else value

    def broken(self, logits: Tensor, y: Tensor) -> Tensor:
        """Bool (N,): the attack has reached its aim."""
        predicted = logits.argmax(1)
        return (predicted == y if self.targeted else predicted != y) & usable(logits)

    def __call__(self, batch: Batch, x_adv: Tensor) -> tuple[Best, Tensor]:
        """One run from `x_adv` (N, ...): what to return of it, and what `check` found, for the host to read once.

        That is, (3,): the counts of unusable logits and gradients, and what the outputs look like.
        """
        best = Best.nothing_yet(x_adv)
        found: Best | None = None
        rows = torch.arange(x_adv.shape[0], device=x_adv.device)
        trouble = torch.zeros(3, dtype=torch.long, device=x_adv.device)
        for step in range(self.steps):
            value = partial(self.value, goal=batch.goal)
            logits, loss, grad = value_and_gradient(self.logits_of, x_adv, value, self.scale)
            if step == 0:
                trouble[0] = (~usable(logits)).sum()
                if self.check:
                    trouble[2] = looks_like(logits, self.logits_of.precision)
            if (
                step == self.steps - 1
            ):  # a NaN gradient makes all later ones NaN, or holds the sample where it is
                trouble[1] = (~grad.isfinite()).flatten(1).any(1).sum()
            broken = self.broken(logits, batch.y)
            if self.keep_best:
                best.offer(x_adv, loss, broken)
            if self.early_stop and bool(broken.any()):
                found = best.select(rows) if found is None else found
                found.write(rows[broken], Best(x_adv[broken], loss[broken], broken[broken]))
                stay = ~broken
                rows, x_adv, grad = rows[stay], x_adv[stay], grad[stay]
                batch, best = batch.select(stay), best.select(stay)
                if not rows.numel():
                    return found, trouble
            ascent = batch.threat.ascent(grad, x_adv, fraction=self.fraction)
            x_adv = batch.threat.project(x_adv + batch.size * ascent, batch.x)
        if self.keep_best:
            logits = self.logits_of(x_adv)
            best.offer(x_adv, self.value(logits, batch.goal), self.broken(logits, batch.y))
        else:
            best.x = x_adv
        if found is not None:
            found.write(rows, best)
        return found or best, trouble
