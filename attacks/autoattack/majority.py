"""Verdicts on random models: the majority over new forwards, as many as a clear result needs."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robustsabn.attacks.losses import margin
from robustsabn.attacks.model.counted import mistaken
from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.verifier import Verifier

__all__ = ["CLEAR", "LEAST", "MOST", "Votes", "convincing", "vote"]

LEAST, ROUND, MOST = 11, 10, 1001
"""Forwards before the first count, between two counts, and at most; totals are odd, so that no vote ties."""
CLEAR = 3.0
"""Distance from a tie, in standard deviations, at which a vote ends."""
SCREEN, LEAD = 501, 31
"""For a success claimed by the search: forwards at most, and the surplus of wrong ones that it needs."""


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Votes of a random model on images with known labels, one row per image, on the CPU.

    - asked, errors: number of forwards, and how many of them were wrong.
    - prediction: the label where most forwards are right, else the most frequent wrong class.
    - margin: the median of z_y - max_{j != y} z_j over the forwards.
    """

    asked: Tensor
    errors: Tensor
    prediction: Tensor
    margin: Tensor

    @property
    def wrong(self) -> Tensor:
        """Bool (N,): most forwards are wrong."""
        return 2 * self.errors > self.asked

    @property
    def close(self) -> Tensor:
        """Bool (N,): not clear after all forwards; another vote may end differently."""
        return (2 * self.errors - self.asked).abs() <= CLEAR * self.asked.sqrt()

    def span(self, other: "Votes") -> tuple[int, int]:
        """The smallest and largest number of forwards per image, over both votes."""
        asked = torch.cat([self.asked, other.asked])
        return int(asked.min()), int(asked.max())

    def columns(self) -> dict[str, Tensor]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def take(self, rows: Tensor) -> "Votes":
        """The rows that `rows` selects."""
        return Votes(**{name: column[rows] for name, column in self.columns().items()})

    def replaced(self, rows: Tensor, other: "Votes") -> "Votes":
        """A copy with the rows of `other` in place of `rows`."""
        return Votes(
            **{
                name: column.index_copy(0, rows, getattr(other, name))
                for name, column in self.columns().items()
            }
        )

    @classmethod
    def interleaved(cls, parts: list["Votes"]) -> "Votes":
        """The whole vote from n parts, of which part i holds the rows i, i + n, i + 2 n, ..."""
        total = sum(len(part.asked) for part in parts)
        columns = {}
        for name, first in parts[0].columns().items():
            columns[name] = first.new_empty(total)
            for start, part in enumerate(parts):
                columns[name][start :: len(parts)] = getattr(part, name)
        return cls(**columns)


def vote(verifier: Verifier, x: Tensor, y: Tensor, *, unusable_is_wrong: bool = False) -> Votes:
    """The majority on images x (N, ...) with labels y (N,): 11 forwards, then ten at a time up to 1001.

    An image leaves when its vote is 3 standard deviations from a tie. NaN and +inf logits count as right,
    since they are no success of an attack, unless `unusable_is_wrong`."""
    return _ask(verifier, x, y, MOST, lambda lead, clear: lead.abs() <= clear, unusable_is_wrong)


def convincing(verifier: Verifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Which claimed successes the search may accept, bool (N,), and the number of forwards taken, (N,).

    A claim is accepted at 31 more wrong forwards than right ones, and dropped at the first count without a
    majority of wrong ones, or after 501 forwards. An image that is wrong with probability 0.45 is accepted
    with probability at most (0.45 / 0.55)^31 (Wald's sequential test). A search makes many claims, and some
    are accepted by chance: the final verdict therefore takes new forwards."""
    votes = _ask(verifier, x, y, SCREEN, lambda lead, clear: (lead > 0) & (lead < LEAD))
    return 2 * votes.errors - votes.asked >= LEAD, votes.asked


def _ask(
    verifier: Verifier,
    x: Tensor,
    y: Tensor,
    most: int,
    undecided: Callable[[Tensor, float], Tensor],
    unusable_is_wrong: bool = False,
) -> Votes:
    x, y = x.to(verifier.device), y.to(verifier.device)
    unclear, asked, errors = torch.arange(len(y), device=y.device), torch.zeros_like(y), torch.zeros_like(y)
    chosen: Tensor | None = None
    margins: list[Tensor] = []
    while len(unclear) and len(margins) < most:
        for _ in range(ROUND if margins else LEAST):
            logits, label = verifier.logits(x[unclear]), y[unclear]
            valid = usable(logits)
            errors[unclear] += mistaken(logits, label) & (valid | unusable_is_wrong)
            if chosen is None:
                chosen = logits.new_zeros(len(y), logits.shape[1], dtype=torch.int32)
            chosen[unclear[valid], logits.argmax(1)[valid]] += 1
            margins.append(logits.new_full((len(y),), torch.nan))
            margins[-1][unclear] = -margin(logits, label)
        asked[unclear] = len(margins)
        lead, clear = 2 * errors[unclear] - len(margins), CLEAR * len(margins) ** 0.5
        unclear = unclear[undecided(lead, clear)]
    if chosen is None:  # no images
        return Votes(asked=asked.cpu(), errors=errors.cpu(), prediction=y.cpu(), margin=y.cpu().float())
    others = chosen.scatter(1, y[:, None], -1).argmax(1)
    prediction = torch.where(2 * errors > asked, others, y)
    median = torch.stack(margins).nanmedian(0).values
    return Votes(asked=asked.cpu(), errors=errors.cpu(), prediction=prediction.cpu(), margin=median.cpu())
