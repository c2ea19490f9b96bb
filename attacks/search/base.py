"""Base of iterative attacks on a batch of points, in which every row is at its own place in its own search.

One step advances every row by one iteration, whatever run, restart or target the row has reached. Finished
rows stay as they are, or get a new point while the others continue (`autoattack/slots.py`). No decision and
no random number of a row depends on the other rows."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

from robustsabn.attacks.habits import CALL, Attack, answered
from robustsabn.attacks.model.counted import CountedModel, mistaken
from robustsabn.attacks.model.inputs import (
    check_batch,
    check_classes,
    check_finite,
    check_values,
    ordinary,
    usable,
)
from robustsabn.attacks.model.logits import Gate, Model
from robustsabn.attacks.model.mode import attack_mode
from robustsabn.attacks.model.outputs import looks_like, say_probabilities
from robustsabn.attacks.model.verify import broken, logits_in_batches
from robustsabn.attacks.threat import ThreatModel

__all__ = ["ATTACKS", "Points", "Rows", "Search", "State", "choose", "per_row", "update"]

# Every random number depends on these: never renumber.
ATTACKS = {
    "apgd-ce": 1,
    "apgd-dlr": 2,
    "apgd-t": 3,
    "fab": 4,
    "fab-t": 5,
    "square": 6,
    "apgd-margin": 7,
    "apgd": 8,
    "apgd-focused": 9,
}


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """One value per row, (S,), shaped to broadcast over `like` (S, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def choose(rows: Tensor, new: Tensor, held: Tensor) -> Tensor:
    """Rows of `new` (S, ...) where `rows` (S,) is True, else of `held`.

    Neither is changed; the result may be one of them. On the CPU the usual cases, all and none, cost nothing.
    """
    if rows.is_cpu:
        count = int(rows.sum())
        if count in (0, len(rows)):
            return new if count else held
    return torch.where(per_row(rows, held), new, held)


def update(held: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """`held` (S, ...) with the rows of `new` where `rows` (S,) is True; `held` itself may be overwritten.

    On the CPU only those rows are copied. An accelerator would have to wait to count them.
    """
    if not held.is_cpu:
        return torch.where(per_row(rows, held), new, held)
    if len(index := rows.nonzero()[:, 0]):
        held[index] = new[index]
    return held


R = TypeVar("R", bound="Rows")


@dataclass
class Rows:
    """A group of tensors, or of other Rows, that all have one row per point."""

    def put(self, rows: Tensor, other: "Rows") -> None:
        """Overwrite the rows `rows` (indices) with all rows of `other`."""
        for entry in fields(self):
            mine, new = getattr(self, entry.name), getattr(other, entry.name)
            if isinstance(mine, Rows):
                mine.put(rows, new)
            elif isinstance(mine, Tensor):
                mine[rows] = new

    def take(self, rows: Tensor) -> Self:
        """A copy of the rows `rows` (indices or bool)."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        taken = {
            name: value.take(rows) if isinstance(value, Rows) else value[rows]
            for name, value in values.items()
            if isinstance(value, (Rows, Tensor))
        }
        return type(self)(**(values | taken))


@dataclass(kw_only=True)
class Points(Rows):
    """The points to attack.

    - x (S, ...), y (S,): images and labels; ids (S,): sample numbers; eps (S,): radii.
    - targets (S, T): the wrong classes in falling order of their clean logits.
    - reachable (S,): how many of these have a logit above -inf, at least 1.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    eps: Tensor
    targets: Tensor
    reachable: Tensor

    @classmethod
    def of(
        cls, x: Tensor, y: Tensor, ids: Tensor, threat: ThreatModel, clean: Tensor, most: int = 9
    ) -> "Points":
        """Points from a batch with the clean logits `clean` (N, K), with at most `most` targets each."""
        order = clean.argsort(dim=1, descending=True, stable=True)
        label_last = (order == y[:, None]).byte().argsort(dim=1, stable=True)
        targets = order.gather(1, label_last)[:, : min(most, clean.shape[1] - 1)]
        reachable = (clean.gather(1, targets) != -torch.inf).sum(1).clamp_min(1)
        eps = threat.eps if isinstance(threat.eps, Tensor) else x.new_full((len(x),), threat.eps)
        return cls(
            x=x.clone(),
            y=y.clone(),
            ids=ids.clone(),
            eps=eps.to(x).clone(),
            targets=targets,
            reachable=reachable,
        )

    def target(self, rank: Tensor) -> Tensor:
        """Target number `rank` (S,) of each row; the last reachable one where there are fewer."""
        return self.targets.gather(1, torch.minimum(rank, self.reachable - 1)[:, None])[:, 0]


@dataclass(kw_only=True)
class State(Rows):
    """The progress of each row.

    - run, it: number of the run (a target, restart or stage), and evaluations in it so far.
    - broken, x_adv: x_adv is misclassified and within the radius; before that it is the clean image.
    - done: the attack has nothing more to try.
    - flat: a gradient was zero at the start of a run. strange: logits were not finite. undefined: a gradient
      of finite logits was not finite.
    - forwards, backwards: passes of the search. checks: claimed successes that were verified.
    - aimed, at: the class that x_adv was aimed at (-1: any), and the evaluation of its run that gave it.
    - countdown: number of steps in which no row ends a run, known without waiting for the device.
    """

    points: Points
    run: Tensor
    it: Tensor
    broken: Tensor
    done: Tensor
    flat: Tensor
    strange: Tensor
    undefined: Tensor
    forwards: Tensor
    backwards: Tensor
    checks: Tensor
    x_adv: Tensor
    aimed: Tensor
    at: Tensor
    countdown: int = 0

    def put(self, rows: Tensor, other: Rows) -> None:
        super().put(rows, other)
        self.countdown = 0

    def count(self, live: Tensor, forwards: int, backwards: int) -> None:
        """Add passes to the rows that are `live`."""
        self.forwards += forwards * live
        self.backwards += backwards * live

    def found(self, rows: Tensor, x_adv: Tensor, aim: Tensor) -> None:
        """Record images that break their points; `aim` (S,) is the class that each row tried to reach."""
        self.broken |= rows
        self.aimed = torch.where(rows, aim, self.aimed)
        self.at = torch.where(rows, self.it + 1, self.at)
        self.x_adv = update(self.x_adv, rows, x_adv)

    @classmethod
    def blank(cls, points: Points) -> "State":
        """The state before the first run: nothing broken, the clean images."""

        def zeros() -> Tensor:
            return torch.zeros_like(points.ids)

        def no() -> Tensor:
            return torch.zeros_like(points.ids, dtype=torch.bool)

        return State(
            points=points,
            run=zeros(),
            it=zeros(),
            broken=no(),
            done=no(),
            flat=no(),
            strange=no(),
            undefined=no(),
            forwards=zeros(),
            backwards=zeros(),
            checks=zeros(),
            x_adv=points.x.clone(),
            aimed=zeros() - 1,
            at=zeros() - 1,
        )

    def kept(self) -> dict[str, Any]:
        """What a row keeps when its next run begins."""
        again = ("run", "it", "countdown")
        return {entry.name: getattr(self, entry.name) for entry in fields(State) if entry.name not in again}


S = TypeVar("S", bound=State)


class Search(Attack, ABC, Generic[S]):
    """An attack that advances in steps; a call attacks a batch."""

    name: str
    threat: ThreatModel
    eot: int = 1
    early_stop: bool = True
    steps: int = 1
    restarts: int = 1
    targets: int = 0

    @property
    def longest(self) -> int:
        """Iterations of a point that no run breaks."""
        return self.restarts * max(self.targets, 1) * self.steps

    def spent(self, state: State) -> Tensor:
        """Iterations of each row so far, (S,), at most `longest`."""
        return (state.run * self.steps + state.it).clamp_max(self.longest)

    def idle(self, state: State) -> Tensor:
        """Rows that have nothing left to do, bool (S,)."""
        return state.done | state.broken if self.early_stop else state.done

    def aim(self, state: S) -> Tensor:
        """The class that each row tries to reach, int64 (S,); -1 for any wrong class."""
        return torch.full_like(state.run, -1)

    @abstractmethod
    def begin(self, points: Points) -> S:
        """The state of `points` before the first step; the network is not called."""

    @abstractmethod
    def step(self, state: S, counted: CountedModel) -> None:
        """Advance every row that is not idle by one iteration, in place."""

    @answered(CALL)
    def __call__(self, model: Model, x: Tensor, y: Tensor, *, ids: Tensor | None = None) -> Tensor:
        """Adversarial images for `x` (N, ...) with labels `y` (N,); the clean image where none was found.

        Each has passed `verify`: misclassified in float32, finite, inside the ball and the box. Images that
        the model misclassifies without an attack are returned unchanged. `ids` (N,) number the samples: a
        sample gets the same random numbers in every batch. The model runs in eval mode; parameters and their
        gradients do not change. Raises InputError for images, labels or logits that do not fit each other or
        the threat model."""
        return self.run(model, x, y, ids=ids).x_adv

    def run(self, model: Model, x: Tensor, y: Tensor, *, ids: Tensor | None = None) -> S:
        """The final state of every row after the attack on `x`; images misclassified before it are done."""
        with torch.inference_mode(False), attack_mode(model), torch.no_grad():
            check_batch(model, x, y)
            largest = check_values(x, y, self.threat)
            x, y = ordinary(x).float(), ordinary(y)
            ids = torch.arange(len(x), device=x.device) if ids is None else ids.to(x.device, torch.int64)
            counted = CountedModel(model, eot=self.eot)
            clean = counted.logits(x)
            check_classes(largest, clean)
            check_finite(int((~usable(clean)).sum()), 0, len(x))
            kind = int(looks_like(clean, counted.precision))
            say_probabilities(kind, Gate(model, x, single=counted.single), x, 5)
            points = Points.of(x, y, ids, self.threat.fit(x), clean)
            state = self.begin(points)
            state.done |= mistaken(clean, y)
            lost = self._search(model, state, counted)
            if not self.early_stop and bool(lost.any()):
                # a refused claim may have overwritten a valid earlier one: search again, stopping at the
                # first
                stopping = copy.copy(self)
                stopping.early_stop = True
                again = stopping.begin(points)
                again.done |= ~lost
                stopping._search(model, again, counted)
                state.put(lost.nonzero()[:, 0], again.take(lost))
        return state

    def _search(self, model: Model, state: S, counted: CountedModel) -> Tensor:
        """Step until every row is idle and its claim verified; bool (S,): its only claims were refused."""
        refused = torch.zeros_like(state.broken)
        while True:
            while not bool(self.idle(state).all()):
                self.step(state, counted)
            now = state.broken & ~self._verified(model, state, counted.single)
            if not bool(now.any()):
                return refused & ~state.broken
            refused |= now
            state.broken &= ~now
            state.x_adv = torch.where(per_row(now, state.x_adv), state.points.x, state.x_adv)

    def _verified(self, model: Model, state: S, single: bool) -> Tensor:
        """Bool (S,): `verify` of all rows in one batch, since the model may accept only this batch size."""
        x_adv, points = state.x_adv, state.points
        logits = logits_in_batches(model, x_adv, len(x_adv), single=single)
        return broken(logits, x_adv, points.x, points.y, self.threat)
