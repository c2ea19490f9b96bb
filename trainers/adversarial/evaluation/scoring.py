"""Marks which images are classified correctly through each route; random models by majority."""

import torch
from torch import Tensor, nn

from robustsabn.attacks.autoattack.majority import vote
from robustsabn.attacks.journal.same_model import Answers
from robustsabn.attacks.losses import margin
from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.logits import Gate
from robustsabn.attacks.model.verifier import Verifier
from robustsabn.routing import maybe_route

__all__ = ["Scores", "VotedScores", "is_random"]

_PROBES = 32
"""The number of images, or of repeated calls on fewer, used to detect a random model."""


class Scores:
    """Which images of a batch are still correct, by attacked route (0: no attack) and scored route.

    `predicted` has the classes after the last attack, through the last scored route; -1 where unknown or
    without usable logits.
    """

    def __init__(
        self, model: nn.Module, gate: Gate, x: Tensor, y: Tensor, scored: tuple[str, ...], rows: int
    ) -> None:
        self.model, self.gate, self.y, self.scored = model, gate, y, scored
        self.right = torch.ones(rows, len(scored), len(x), dtype=torch.bool, device=x.device)
        self.unusable = torch.zeros_like(self.right[0, 0])
        self.predicted = torch.full_like(y, -1)

    @torch.no_grad()
    def score(self, row: int, x: Tensor, index: Tensor | slice = slice(None)) -> None:
        """Score `x`, which replaces the images `index`, through every scored route."""
        for column, route in enumerate(self.scored):
            with maybe_route(self.model, route):
                logits = self.gate(x)
            self.unusable[index] |= ~usable(logits)
            self.take(row, column, index, x, logits)

    def take(self, row: int, column: int, index: Tensor | slice, x: Tensor, logits: Tensor) -> None:
        """Record the logits of `x`."""
        predicted = logits.argmax(1).where(usable(logits), -1)
        self.right[row, column, index] &= predicted == self.y[index]
        if (row, column) == (len(self.right) - 1, len(self.scored) - 1):
            self.predicted[index] = predicted

    def close(self) -> None:
        """Called after the last score."""


class VotedScores(Scores):
    """Scores of a random model: a majority vote on the image with the lowest margin, at the end.

    Until then every image counts as correct: with one call per restart, any image would be misclassified
    sooner or later.
    """

    def __init__(
        self, model: nn.Module, gate: Gate, x: Tensor, y: Tensor, scored: tuple[str, ...], rows: int
    ) -> None:
        super().__init__(model, gate, x, y, scored, rows)
        self.held = x.expand(rows, len(scored), *x.shape).clone()
        self.worst = torch.full_like(self.right, -torch.inf, dtype=torch.float32)

    def take(self, row: int, column: int, index: Tensor | slice, x: Tensor, logits: Tensor) -> None:
        worst, held = self.worst[row, column], self.held[row, column]
        margins = margin(logits, self.y[index]).float().nan_to_num(nan=torch.inf)
        worse = margins > worst[index]
        held[index] = torch.where(worse.view(-1, *[1] * (x.ndim - 1)), x, held[index])
        worst[index] = torch.where(worse, margins, worst[index])

    def close(self) -> None:
        verifier = Verifier(self.model, self.held[0, 0], batch_size=len(self.y))
        for row, of_row in enumerate(self.held):
            for column, (route, x) in enumerate(zip(self.scored, of_row, strict=True)):
                with maybe_route(self.model, route):
                    wrong = vote(verifier, x, self.y, unusable_is_wrong=True).wrong
                self.right[row, column] = ~wrong.to(self.right.device)


@torch.no_grad()
def is_random(model: nn.Module, gate: Gate, x: Tensor, routes: tuple[str, ...]) -> bool:
    """Whether logits of images x (n, C, H, W) change between calls, beyond rounding, through any route."""
    for route in routes:
        with maybe_route(model, route):
            first = gate(x)
            half = gate.precision in (torch.float16, torch.bfloat16)
            for _ in range(-(-_PROBES // len(x))):
                if bool(Answers(first, half=half).apart(gate(x)).any()):
                    return True
    return False
