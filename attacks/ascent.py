"""The loop of projected gradient ascent on one batch."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustsabn.attacks.best import Best
from robustsabn.attacks.losses import Loss, cross_entropy, overconfidence
from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.logits import Gate, value_and_gradient
from robustsabn.attacks.model.outputs import looks_like
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["Ascent", "Batch"]

_SURE = 16.0
"""A lead of the label, in logits, at which its probability is about to be 1 in float32, and no part of the gradient."""


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

    def leads(self, logits: Tensor, y: Tensor) -> Tensor | None:
        """What is taken from the logits of overconfident networks, see `overconfidence`; None for other losses."""
        if self.loss is not cross_entropy or self.targeted:
            return None
        return overconfidence(logits, y, _SURE)

    def value(self, logits: Tensor, goal: Tensor, leads: Tensor | None = None) -> Tensor:
        """What is maximised, (N,)."""
        if leads is not None:
            return self.loss(logits - leads, goal) - leads.sum(1)
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

        That is, (4,): the counts of unusable logits and gradients, what the outputs look like, and the count of images
        that are not misclassified at the start and have no gradient there.
        """
        leads: Tensor | None = None

        def value(logits: Tensor) -> Tensor:
            nonlocal leads
            if step == 0:
                leads = self.leads(logits.detach(), batch.y)
            return self.value(logits, batch.goal, leads)

        best = Best.nothing_yet(x_adv)
        found: Best | None = None
        rows = torch.arange(x_adv.shape[0], device=x_adv.device)
        trouble = torch.zeros(4, dtype=torch.long, device=x_adv.device)
        for step in range(self.steps):
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
            if step == 0 and self.check:
                trouble[3] = ((grad.flatten(1) == 0).all(1) & ~broken).sum()
            if self.keep_best:
                best.offer(x_adv, loss, broken)
            if self.early_stop and bool(broken.any()):
                found = best.select(rows) if found is None else found
                found.write(rows[broken], Best(x_adv[broken], loss[broken], broken[broken]))
                stay = ~broken
                rows, x_adv, grad = rows[stay], x_adv[stay], grad[stay]
                batch, best = batch.select(stay), best.select(stay)
                leads = leads if leads is None else leads[stay]
                if not rows.numel():
                    return found, trouble
            ascent = batch.threat.ascent(grad, x_adv, fraction=self.fraction)
            x_adv = batch.threat.project(x_adv + batch.size * ascent, batch.x)
        if self.keep_best:
            logits = self.logits_of(x_adv)
            best.offer(x_adv, self.value(logits, batch.goal, leads), self.broken(logits, batch.y))
        else:
            best.x = x_adv
        if found is not None:
            found.write(rows, best)
        return found or best, trouble
