"""FAB, the fast adaptive boundary attack, and its targeted form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustsabn.attacks import rng
from robustsabn.attacks.counts import positive, seed_of
from robustsabn.attacks.habits import answers
from robustsabn.attacks.model.counted import CountedModel, mistaken
from robustsabn.attacks.model.inputs import check_threat, usable
from robustsabn.attacks.search.base import ATTACKS, Points, Search, State, choose, per_row
from robustsabn.attacks.search.hyperplane import step_to_hyperplane
from robustsabn.attacks.threat import ThreatModel

__all__ = ["FAB", "FABT"]

_ORDER = {"Linf": float("inf"), "L2": 2.0, "L1": 1.0}
_ALPHA_MAX, _ETA, _BETA, _TINY = 0.1, 1.05, 0.9, 1e-8


@dataclass(kw_only=True)
class FabState(State):
    """`v`: where the boundary is linearised next; `best`: the smallest distance of a misclassified image."""

    v: Tensor
    best: Tensor


@answers
class FAB(Search[FabState]):
    """FAB: follows the decision boundary towards its point nearest to the image.

    The call takes and returns the same as that of `APGD`. Each of `steps` iterations (two forwards, one
    backward per class) linearises the boundary to the nearest class. It steps 1.05 times the distance to it,
    both from the current point and from the image, and averages the two with a weight of at most 0.1 for the
    image. A misclassified result is then moved back to 0.9 of its distance from the image. A point is broken
    when a misclassified image within eps is found. The first run starts at the image. The other restarts - 1
    start at random images at most eps / 2 away (in the authors' code: half the smallest distance so far, if
    below eps), which depend on `seed` and the sample's number. Raises InputError for counts below 1. Source:
    Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML
    2020, algorithm 1.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import FAB, ThreatModel
        >>> x, y = torch.tensor([[0.5, 0.4], [0.9, 0.1]]), torch.tensor([0, 0])
        >>> x_adv = FAB(ThreatModel("L2", 0.2), steps=10)(lambda x: x, x, y)
        >>> (x_adv.argmax(1) != y).tolist()  # the second image is further from the boundary than eps
        [True, False]
    """

    name = "fab"
    targets = 0

    def __init__(
        self,
        threat: ThreatModel,
        *,
        steps: int = 100,
        restarts: int = 1,
        early_stop: bool = True,
        seed: int = 0,
    ) -> None:
        check_threat(threat)
        self.threat, (self.steps, self.restarts) = threat, positive(steps=steps, restarts=restarts)
        self.early_stop, self.seed = early_stop, seed_of(seed)

    def begin(self, points: Points) -> FabState:
        return self._enter(State.blank(points), torch.zeros_like(points.ids))

    def step(self, state: FabState, counted: CountedModel) -> None:
        s, x = state, state.points.x
        live = ~self.idle(s)
        value, w, undefined, passes = self._boundary(s, counted)
        s.flat |= live & (s.it == 0) & (w == 0).all(1) & ~undefined
        s.undefined |= live & undefined
        flat, centre = s.v.flatten(1), x.flatten(1)
        b = (w * flat).sum(1) - value
        norm, bounds = self.threat.norm, self.threat.box(x.dtype)
        from_point, from_image = steps = step_to_hyperplane(norm, torch.stack([flat, centre]), w, b, bounds)
        near, far = torch.linalg.vector_norm(steps, _ORDER[norm], dim=2, keepdim=True).clamp_min(_TINY)
        alpha = (near / (near + far)).clamp(0, _ALPHA_MAX)
        near_to, far_to = from_point.mul_(_ETA).add_(flat), from_image.mul_(_ETA).add_(centre)
        v = near_to.mul_(1 - alpha).add_(far_to.mul_(alpha)).clamp_(*bounds).view_as(x)

        logits = counted.logits(v)
        s.count(live, 2, passes)
        s.strange |= live & ~usable(logits)
        wrong = live & mistaken(logits, s.points.y)
        distance = self.threat.distance(v, x)
        nearer = wrong & (distance < s.best)
        s.best = torch.where(nearer, distance, s.best)
        s.found(nearer & (distance <= s.points.eps), v, self.aim(s))
        v = choose(wrong, x + _BETA * (v - x), v)
        s.v = choose(live, v, s.v)

        s.it += live.long()
        over = live & (s.it >= self.steps)
        s.done |= over & (s.run + 1 >= self._runs(s.points))
        if s.countdown > 0:
            s.countdown -= 1
            return
        if len(rows := (over & ~s.done).nonzero()[:, 0]):
            ended = s.take(rows)
            s.put(rows, self._enter(ended, ended.run + 1))
        remaining = torch.where(s.done, self.steps, self.steps - 1 - s.it)
        s.countdown = max(int(remaining.amin()), 0)

    def _runs(self, points: Points) -> Tensor | int:
        return self.restarts * (points.reachable.clamp_max(self.targets) if self.targets else 1)

    def _enter(self, old: State, run: Tensor) -> FabState:
        """The rows of `old` at the start of run number `run` (S,)."""
        x, threat = old.points.x, self.threat
        v = x
        if self.restarts > 1:
            keys, shape = rng.stream(self.seed, old.points.ids, ATTACKS[self.name], run), tuple(x.shape[1:])
            raw = 2 * rng.uniform(keys, shape) - 1 if threat.norm == "Linf" else rng.normal(keys, shape)
            unit = raw / per_row(threat.distance(raw, torch.zeros_like(raw)), raw)
            noisy = torch.clamp(x + per_row(old.points.eps / 2, x) * unit, *threat.box(x.dtype))
            v = torch.where(per_row(run % self.restarts > 0, x), noisy, x)
        best = torch.full_like(old.points.eps, 1e10)
        return FabState(**old.kept(), run=run, it=torch.zeros_like(run), v=v.clone(), best=best)

    def _boundary(self, s: FabState, counted: CountedModel) -> tuple[Tensor, Tensor, Tensor, int]:
        """Logit difference (S,) to the class of the nearest boundary, its gradient (S, D), the rows where
        that is not finite, and the number of backwards."""
        logits, rows, undefined = counted.jacobian(s.v)
        classes, label = logits.shape[1], s.points.y[:, None]
        jacobian = rows.flatten(2).transpose(0, 1)
        own = label[..., None].expand(-1, 1, jacobian.shape[2])
        slopes = jacobian - jacobian.gather(1, own)
        values = logits - logits.gather(1, label)
        dual = {"Linf": 1.0, "L2": 2.0, "L1": float("inf")}[self.threat.norm]
        away = values.abs() / (1e-12 + torch.linalg.vector_norm(slopes, dual, dim=2))
        nearest = away.scatter(1, label, float("inf")).argmin(1, keepdim=True)
        chosen = slopes.gather(1, nearest[..., None].expand(-1, 1, slopes.shape[2]))
        return values.gather(1, nearest)[:, 0], chosen[:, 0], undefined, classes


@answers
class FABT(FAB):
    """FAB towards each of the `targets` wrong classes of highest clean logit in turn: one backward per
    iteration.

    A class with the logit -inf is no target. Any misclassification is a success. The call, the other
    arguments and the errors are those of `FAB`. Source: Croce and Hein, "Reliable evaluation of adversarial
    robustness", ICML 2020, section 5.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import FABT, ThreatModel
        >>> x, y = torch.tensor([[0.6, 0.5, 0.1]]), torch.tensor([0])
        >>> x_adv = FABT(ThreatModel("Linf", 0.1), targets=2, steps=10)(lambda x: x, x, y)
        >>> x_adv.argmax(1)
        tensor([1])
    """

    name = "fab-t"

    def __init__(
        self,
        threat: ThreatModel,
        *,
        targets: int = 9,
        steps: int = 100,
        restarts: int = 1,
        early_stop: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(threat, steps=steps, restarts=restarts, early_stop=early_stop, seed=seed)
        (self.targets,) = positive(targets=targets)

    def aim(self, state: FabState) -> Tensor:
        return state.points.target(state.run // self.restarts)

    def _boundary(self, s: FabState, counted: CountedModel) -> tuple[Tensor, Tensor, Tensor, int]:
        pair = torch.stack([self.aim(s), s.points.y], 1)

        def lead(logits: Tensor) -> Tensor:
            picked = logits.gather(1, pair)
            return picked[:, 0] - picked[:, 1]

        value, _, grad, undefined = counted.gradient(s.v, lead)
        return value, grad.flatten(1), undefined, 1
