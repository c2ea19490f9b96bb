"""The loop of projected gradient ascent on one batch."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustsabn.attacks.losses import Loss, cross_entropy, overconfidence
from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.logits import Gate, value_and_gradient
from robustsabn.attacks.model.outputs import looks_like
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["Batch", "Best", "PgdLoop"]

_SURE = 16.0
"""Lead of the label's logit from which the gradient of the cross entropy all but rounds to 0 in float32."""


class Batch(NamedTuple):
    """A batch under attack: images, labels, step size and threat model.

    `goal` is what the loss compares the logits with: the labels, or the clean logits (N, K) for the KL loss.
    """

    x: Tensor
    y: Tensor
    goal: Tensor
    size: Tensor
    threat: ThreatModel

    def select(self, index: Tensor) -> "Batch":
        """The samples `index`."""
        size = self.size[index] if self.size.ndim else self.size
        return Batch(
            x=self.x[index],
            y=self.y[index],
            goal=self.goal[index],
            size=size,
            threat=self.threat.select(index),
        )


@dataclass
class Best:
    """The best iterate of every sample so far: a misclassified one wins, then the higher loss.

    Images x (N, ...), their losses (N,), and which are misclassified (N,).
    """

    x: Tensor
    loss: Tensor
    broken: Tensor

    @classmethod
    def nothing_yet(cls, x: Tensor) -> "Best":
        """Starts with `x` and the loss -inf, so that the first offer wins."""
        count = x.shape[0]
        return cls(x.clone(), x.new_full((count,), -torch.inf), x.new_zeros(count, dtype=torch.bool))

    def offer(self, x: Tensor, loss: Tensor, broken: Tensor) -> None:
        """Keep the samples that are better than those held so far; a NaN loss is never better."""
        better = (broken & ~self.broken) | ((broken == self.broken) & (loss > self.loss))
        self.x = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, self.x)
        self.loss = torch.where(better, loss.to(self.loss.dtype), self.loss)
        self.broken = self.broken | broken

    def select(self, index: Tensor) -> "Best":
        """A copy of the rows `index`."""
        return Best(self.x[index], self.loss[index], self.broken[index])

    def write(self, index: Tensor, other: "Best") -> None:
        """Overwrite the rows `index` with those of `other`."""
        self.x[index], self.loss[index], self.broken[index] = other.x, other.loss, other.broken


@dataclass(frozen=True, kw_only=True)
class PgdLoop:
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
        """What `overconfidence` subtracts from the logits (N, K); None for losses but cross entropy."""
        if self.loss is not cross_entropy or self.targeted:
            return None
        return overconfidence(logits, y, _SURE)

    def value(self, logits: Tensor, goal: Tensor, leads: Tensor | None = None) -> Tensor:
        """The value that the attack maximises, (N,)."""
        if leads is not None:
            return self.loss(logits - leads, goal) - leads.sum(1)
        value = self.loss(logits, goal)
        if value.shape != logits.shape[:1]:
            raise InputError(
                f"the loss returns shape {tuple(value.shape)} for {logits.shape[0]} samples; allowed is one "
                "value per sample: reduction='none'"
            )
        return -value if self.targeted else value

    def broken(self, logits: Tensor, y: Tensor) -> Tensor:
        """Bool (N,): the attack has succeeded."""
        predicted = logits.argmax(1)
        return (predicted == y if self.targeted else predicted != y) & usable(logits)

    def __call__(self, batch: Batch, x_adv: Tensor) -> tuple[Best, Tensor]:
        """One run that starts at `x_adv` (N, ...): its result, and what `check` needs, (4,), still on the
        device.

        The four numbers: images with unusable logits; images with unusable gradients; the kind of output, see
        `looks_like`; images that are classified correctly at the start and have a zero gradient there.
        """
        leads: Tensor | None = None

        def value(logits: Tensor) -> Tensor:
            nonlocal leads
            if step == 0:
                leads = self.leads(logits.detach(), batch.y)
            return self.value(logits, batch.goal, leads)

        best = Best.nothing_yet(x_adv)
        finished: Best | None = None
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
            ):  # NaN gradients persist, or the sample stops moving: the last step shows it
                trouble[1] = (~grad.isfinite()).flatten(1).any(1).sum()
            broken = self.broken(logits, batch.y)
            if step == 0 and self.check:
                trouble[3] = ((grad.flatten(1) == 0).all(1) & ~broken).sum()
            if self.keep_best:
                best.offer(x_adv, loss, broken)
            if self.early_stop and bool(broken.any()):
                finished = best.select(rows) if finished is None else finished
                finished.write(rows[broken], Best(x_adv[broken], loss[broken], broken[broken]))
                stay = ~broken
                rows, x_adv, grad = rows[stay], x_adv[stay], grad[stay]
                batch, best = batch.select(stay), best.select(stay)
                leads = leads if leads is None else leads[stay]
                if not rows.numel():
                    return finished, trouble
            ascent = batch.threat.ascent(grad, x_adv, fraction=self.fraction)
            x_adv = batch.threat.project(x_adv + batch.size * ascent, batch.x)
        if self.keep_best:
            logits = self.logits_of(x_adv)
            best.offer(x_adv, self.value(logits, batch.goal, leads), self.broken(logits, batch.y))
        else:
            best.x = x_adv
        if finished is not None:
            finished.write(rows, best)
        return finished or best, trouble
