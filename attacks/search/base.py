"""Iterative attacks as row machines: a batch of points, each at its own place in its own search.

An attack that is written this way advances every row by one iteration per step, whatever run, restart or target
the row has reached. Rows that have finished are left as they are, or given a new point while the others go on
(`engine.py`), and no decision or random draw of a row depends on its neighbours.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import Self

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

# Part of every random draw: never renumber.
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
    """Rows of `new` (S, ...) where `rows` (S,) is True, else of `held`; neither is changed, either may be returned.

    On the CPU the usual cases, all and none, cost nothing.
    """
    if rows.is_cpu:
        count = int(rows.sum())
        if count in (0, len(rows)):
            return new if count else held
    return torch.where(per_row(rows, held), new, held)


def update(held: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """`held` (S, ...) with the rows where `rows` (S,) is True taken from `new`; `held` itself may be overwritten.

    On the CPU only those rows are touched. An accelerator would have to be asked how many there are.
    """
    if not held.is_cpu:
        return torch.where(per_row(rows, held), new, held)
    if len(index := rows.nonzero()[:, 0]):
        held[index] = new[index]
    return held


@dataclass
class Rows:
    """Tensors (or further Rows) that all have one row per point."""

    def put(self, rows: Tensor, other: "Rows") -> None:
        """Overwrite the rows with the numbers `rows` by all rows of `other`."""
        for entry in fields(self):
            mine, new = getattr(self, entry.name), getattr(other, entry.name)
            if isinstance(mine, Rows):
                mine.put(rows, new)
            elif isinstance(mine, Tensor):
                mine[rows] = new

    def take(self, rows: Tensor) -> Self:
        """A copy of the rows with the numbers `rows`."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        taken = {
            name: value.take(rows) if isinstance(value, Rows) else value[rows]
            for name, value in values.items()
            if isinstance(value, (Rows, Tensor))
        }
        return type(self)(**(values | taken))


@dataclass
class Points(Rows):
    """What is attacked: images x (S, ...), labels y, sample numbers ids, radii eps (S,), the wrong classes in falling
    order of their clean logits, targets (S, T), and how many of these have a logit above -inf, reachable (S,),
    at least 1."""

    x: Tensor
    y: Tensor
    ids: Tensor
    eps: Tensor
    targets: Tensor
    reachable: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, ids: Tensor, threat: ThreatModel, clean: Tensor, most: int = 9) -> Self:
        """Points from a batch with the clean logits `clean` (N, K); at most `most` targets are kept."""
        order = clean.argsort(dim=1, descending=True, stable=True)
        label_last = (order == y[:, None]).byte().argsort(dim=1, stable=True)
        targets = order.gather(1, label_last)[:, : min(most, clean.shape[1] - 1)]
        reachable = (clean.gather(1, targets) != -torch.inf).sum(1).clamp_min(1)
        eps = threat.eps if isinstance(threat.eps, Tensor) else x.new_full((len(x),), threat.eps)
        return cls(x.clone(), y.clone(), ids.clone(), eps.to(x).clone(), targets, reachable)

    def target(self, rank: Tensor) -> Tensor:
        """The class number `rank` (S,) among the reachable targets of each row; the last one beyond them."""
        return self.targets.gather(1, torch.minimum(rank, self.reachable - 1)[:, None])[:, 0]


@dataclass
class State(Rows):
    """How far each row is: `it` evaluations into run number `run` (a target, restart or stage).

    `countdown` is a number of steps, known without asking the device, in which no row ends a run.

    `broken`: x_adv is misclassified and within the radius. `done`: the attack has nothing more to try.
    `flat`: a gradient was zero at the beginning of a run. `strange`: logits were not finite. `undefined`: a gradient
    of finite logits was not. `forwards`, `backwards`: passes of the search. `checks`: claims of success that were judged.
    `aimed` and `at`: of x_adv, the class that was aimed at (-1: any) and the evaluations into its run.
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
    countdown: int = field(default=0, kw_only=True)

    def put(self, rows: Tensor, other: Rows) -> None:
        super().put(rows, other)
        self.countdown = 0

    def count(self, live: Tensor, forwards: int, backwards: int) -> None:
        """Book passes to the rows that needed them."""
        self.forwards += forwards * live
        self.backwards += backwards * live

    def found(self, rows: Tensor, x_adv: Tensor, aim: Tensor) -> None:
        """Note images that break their points; `aim` (S,) is the class that each row tried to reach."""
        self.broken |= rows
        self.aimed = torch.where(rows, aim, self.aimed)
        self.at = torch.where(rows, self.it + 1, self.at)
        self.x_adv = update(self.x_adv, rows, x_adv)

    @classmethod
    def blank(cls, points: Points) -> "State":
        """Row 0 of everything, nothing broken, the clean images."""

        def zeros() -> Tensor:
            return torch.zeros_like(points.ids)

        def no() -> Tensor:
            return torch.zeros_like(points.ids, dtype=torch.bool)

        return State(
            points,
            *(zeros(), zeros(), no(), no(), no(), no(), no(), zeros(), zeros(), zeros()),
            points.x.clone(),
            zeros() - 1,
            zeros() - 1,
        )


S = TypeVar("S", bound=State)


class Search(ABC, Generic[S]):
    """An attack in steps. Calling it attacks a batch."""

    name: str
    threat: ThreatModel
    eot: int = 1
    early_stop: bool = True

    def idle(self, state: State) -> Tensor:
        """Rows that have nothing left to do, bool (S,)."""
        return state.done | state.broken if self.early_stop else state.done

    def aim(self, state: S) -> Tensor:
        """The class that each row tries to reach, int64 (S,); -1 where any wrong class will do."""
        return torch.full_like(state.run, -1)

    @abstractmethod
    def begin(self, points: Points) -> S:
        """Fresh rows for `points`; asks nothing of the network."""

    @abstractmethod
    def step(self, state: S, counted: CountedModel) -> None:
        """Advance every row that is not idle by one iteration, in place."""

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, ids: Tensor | None = None) -> Tensor:
        """Adversarial images for `x` (N, ...) with labels `y`; where none was found, the clean image.

        Each has passed `verify`: misclassified in float32, finite, inside the ball and the box.
        `ids` (N,) number the samples for their random draws; a sample meets the same draws in every batch.
        Images that the model gets wrong from the start are returned as they are. Modules are in eval mode
        meanwhile, and parameters and their gradients are not touched. Raises InputError for images, labels or
        logits that do not fit each other or the threat model.
        """
        return self.run(model, x, y, ids=ids).x_adv

    def run(self, model: Model, x: Tensor, y: Tensor, *, ids: Tensor | None = None) -> S:
        """The final state of every row after attacking `x`; wrong from the start counts as done."""
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
            say_probabilities(kind, Gate(model, x, single=counted.single), x, 4)
            points = Points.of(x, y, ids, self.threat.fit(x), clean)
            state = self.begin(points)
            state.done |= mistaken(clean, y)
            lost = self._search(model, state, counted)
            if not self.early_stop and bool(
                lost.any()
            ):  # a sound claim before the refused one was overwritten
                careful = copy.copy(self)
                careful.early_stop = True
                again = careful.begin(points)
                again.done |= ~lost
                careful._search(model, again, counted)
                state.put(lost.nonzero()[:, 0], again.take(lost))
        return state

    def _search(self, model: Model, state: S, counted: CountedModel) -> Tensor:
        """Steps until every row is idle and its claim verified; bool (S,) rows that end without after a refused one."""
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
        """Bool (S,): `verify`, of all rows at once as the search asks: the model may take this number of images alone."""
        x_adv, points = state.x_adv, state.points
        logits = logits_in_batches(model, x_adv, len(x_adv), single=single)
        return broken(logits, x_adv, points.x, points.y, self.threat)
