"""Verdicts on randomised models: the majority of fresh answers, as many as it takes to tell."""

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
"""Answers before the first count, between two counts, and at most: odd numbers, so that no vote ties."""
CLEAR = 3.0
"""Standard deviations from a tie at which a vote is closed."""
SCREEN, LEAD = 501, 31
"""Of a claim of the search: the most answers, and by how many more wrong than right ones it passes."""


@dataclass(frozen=True)
class Votes:
    """What a model said about images with known labels, one row per image, on the CPU.

    `asked` answers, of which `errors` were wrong. `prediction` is the label where most answers are right, else the
    wrong class that was given most often. `margin` is the median of z_y - max_{j != y} z_j over the answers.
    """

    asked: Tensor
    errors: Tensor
    prediction: Tensor
    margin: Tensor

    @property
    def wrong(self) -> Tensor:
        """Bool (N,): most answers are wrong."""
        return 2 * self.errors > self.asked

    @property
    def close(self) -> Tensor:
        """Bool (N,): not clear after all answers; another vote may end otherwise."""
        return (2 * self.errors - self.asked).abs() <= CLEAR * self.asked.sqrt()

    def span(self, other: "Votes") -> tuple[int, int]:
        """The fewest and the most answers to one image in either."""
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
        """One of several, of which number i of n holds the rows i, i + n, i + 2 n, ..."""
        total = sum(len(part.asked) for part in parts)
        columns = {}
        for name, first in parts[0].columns().items():
            columns[name] = first.new_empty(total)
            for start, part in enumerate(parts):
                columns[name][start :: len(parts)] = getattr(part, name)
        return cls(**columns)


def vote(verifier: Verifier, x: Tensor, y: Tensor, *, unusable_is_wrong: bool = False) -> Votes:
    """The majority on images x (N, ...) with labels y (N,): 11 answers, then ten at a time up to 1001.

    An image is asked until its vote is 3 standard deviations from a tie. NaN and +inf count as right, for they are no
    success of an attack, unless `unusable_is_wrong`.
    """
    return _ask(verifier, x, y, MOST, lambda lead, clear: lead.abs() <= clear, unusable_is_wrong)


def convincing(verifier: Verifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Bool (N,): claims that may end a search, with 31 more wrong answers than right ones; and the answers taken.

    A claim is dropped as soon as a count finds no majority for it, or after 501 answers. An image that is wrong with
    probability .45 passes with probability (.45 / .55)^31 at most (Wald's sequential test). The final verdict asks
    anew: with as many claims as a search makes, some pass here by luck.
    """
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
    left, asked, errors = torch.arange(len(y), device=y.device), torch.zeros_like(y), torch.zeros_like(y)
    chosen: Tensor | None = None
    margins: list[Tensor] = []
    while len(left) and len(margins) < most:
        for _ in range(ROUND if margins else LEAST):
            logits, label = verifier.logits(x[left]), y[left]
            fine = usable(logits)
            errors[left] += mistaken(logits, label) & (fine | unusable_is_wrong)
            if chosen is None:
                chosen = logits.new_zeros(len(y), logits.shape[1], dtype=torch.int32)
            chosen[left[fine], logits.argmax(1)[fine]] += 1
            margins.append(logits.new_full((len(y),), torch.nan))
            margins[-1][left] = -margin(logits, label)
        asked[left] = len(margins)
        lead, clear = 2 * errors[left] - len(margins), CLEAR * len(margins) ** 0.5
        left = left[undecided(lead, clear)]
    if chosen is None:  # no images
        return Votes(asked.cpu(), errors.cpu(), y.cpu(), y.cpu().float())
    others = chosen.scatter(1, y[:, None], -1).argmax(1)
    prediction = torch.where(2 * errors > asked, others, y)
    median = torch.stack(margins).nanmedian(0).values
    return Votes(asked.cpu(), errors.cpu(), prediction.cpu(), median.cpu())
