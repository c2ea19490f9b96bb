"""APGD, the projected gradient attack that chooses its own step size, and its targeted form."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustsabn.attacks import rng
from robustsabn.attacks.counts import positive, seed_of, share_of
from robustsabn.attacks.habits import answers
from robustsabn.attacks.losses import LOSSES, Loss, margin, targeted_dlr
from robustsabn.attacks.model.counted import CountedModel, mistaken
from robustsabn.attacks.model.inputs import check_threat, usable
from robustsabn.attacks.projections import project_l1, project_l2, project_linf, sample_norm
from robustsabn.attacks.search.base import ATTACKS, Points, Search, State, choose, per_row, update
from robustsabn.attacks.steps import steepest
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError
from robustsabn.text import quote

__all__ = ["APGD", "APGDT", "checkpoints"]

_PROJECT = {"Linf": project_linf, "L2": project_l2, "L1": project_l1}


def checkpoints(steps: int, norm: str = "Linf") -> list[int]:
    """Iterations, counted from 0, after which APGD checks its step size."""
    if norm == "L1":
        return list(range(max(int(0.04 * steps), 1) - 1, steps, max(int(0.04 * steps), 1)))
    width, least, shrink = (max(int(part * steps), 1) for part in (0.22, 0.06, 0.03))
    iterations, at = [], width - 1
    while at < steps:
        iterations.append(at)
        width = max(width - shrink, least)
        at += width
    return iterations


@dataclass(kw_only=True)
class ApgdState(State):
    """`x_cur` is evaluated next; `x_best`, `g_best`, `best`: image, gradient and loss of the best iterate."""

    x_cur: Tensor
    x_prev: Tensor
    x_best: Tensor
    g_best: Tensor
    best: Tensor
    at_check: Tensor
    last: Tensor
    rises: Tensor
    reduced: Tensor
    eta: Tensor
    support: Tensor
    fraction: Tensor
    by_margin: Tensor


@answers
class APGD(Search[ApgdState]):
    """Auto-PGD: momentum, and a step size for each point that is halved when the loss stops increasing.

    `attack(model, x, y)` takes images x (N, ...) inside the bounds of `threat` and labels y (N,) int64, and
    returns verified adversarial images like x; the clean image where it found none.

    - loss: "ce", "dlr", "margin", or a function of (logits, labels) -> (N,), which is maximised.
    - restarts: runs from random starts, each of `steps` iterations with steps + 1 gradients.
    - eot: number of forwards over which each gradient is averaged, for random models.
    - rho: the step size is halved if less than this share of the steps since the last checkpoint increased
      the loss (Linf, L2).
    - large_eps: search with radius 3 eps and 2 eps first, for 30 % of the steps each (L1 only).
    - early_stop: a point stops at its first adversarial image. Without it each run continues, and the last
      adversarial image is returned, as in the authors' code.

    Unlike in the authors' code, the random start depends only on `seed` and the sample's number, and the
    margin loss is used where the cross entropy has gradient zero at the start. Raises InputError for unknown
    losses, counts below 1, and large_eps with another norm than L1. Sources: Croce and Hein, "Reliable
    evaluation of adversarial robustness", ICML 2020, section 3, and "Mind the box", ICML 2021, section 3
    (L1).

    Example:

        >>> import torch
        >>> from robustsabn.attacks import APGD, ThreatModel
        >>> model = torch.nn.Linear(8, 4).requires_grad_(False)
        >>> x = torch.rand(5, 8)
        >>> y = model(x).argmax(1)
        >>> x_adv = APGD(ThreatModel("Linf", 0.9), steps=10)(model, x, y)
        >>> bool((model(x_adv).argmax(1) != y).any()), bool((x_adv - x).abs().max() <= 0.9 + 1e-6)
        (True, True)
    """

    targets = 0

    def __init__(
        self,
        threat: ThreatModel,
        *,
        loss: str | Loss = "ce",
        steps: int = 100,
        restarts: int = 1,
        eot: int = 1,
        rho: float = 0.75,
        large_eps: bool = False,
        early_stop: bool = True,
        seed: int = 0,
    ) -> None:
        check_threat(threat)
        if loss not in LOSSES if isinstance(loss, str) else not callable(loss):
            raise InputError(
                f"loss is {quote(loss)}; allowed are {', '.join(LOSSES)} or a function of (logits, y)"
            )
        if large_eps and threat.norm != "L1":
            raise InputError(f"large_eps is for L1; the norm is {threat.norm}")
        self.threat, self.loss = threat, loss
        self.steps, self.restarts, self.eot = positive(steps=steps, restarts=restarts, eot=eot)
        self.rho, self.early_stop, self.seed = share_of("rho", rho), early_stop, seed_of(seed)
        self.name = f"apgd-{loss}" if isinstance(loss, str) else "apgd"
        part = math.ceil(0.3 * self.steps)
        self.chained = large_eps and self.steps > 2 * part
        self.lengths = [part, part, self.steps - 2 * part] if self.chained else [self.steps]
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def begin(self, points: Points, start: Tensor | None = None) -> ApgdState:
        """Rows at the start of the first run; `start` (S, ...) replaces the random start."""
        return self._enter(State.blank(points), None, start)

    def step(self, state: ApgdState, counted: CountedModel) -> None:
        s, points = state, state.points
        live = ~self.idle(s)
        loss, logits, grad, undefined = counted.gradient(s.x_cur, lambda z: self._value(z, s))
        loss = loss.nan_to_num(nan=-math.inf)
        first, stage, scale = s.it == 0, self._stage(s.run, points), self._scale(s.run)
        zero = grad.flatten(1).abs().amax(1) == 0
        s.count(live, self.eot, self.eot)
        s.flat |= live & first & zero & ~undefined
        s.undefined |= live & undefined
        s.strange |= live & ~usable(logits)
        s.found(live & (scale == 1) & mistaken(logits, points.y), s.x_cur, self.aim(s))

        better = live & (first | (loss > s.best))
        s.x_best = update(s.x_best, better, s.x_cur)
        s.g_best = update(s.g_best, better, grad)
        s.best = torch.where(better, loss, s.best)
        s.rises = torch.where(first, 0, s.rises + (loss > s.last))
        # the first step is compared with zero, as in the authors' code
        s.last = torch.where(first, 0.0, loss)

        ends, widths = self._schedule(grad.device)
        radius = points.eps * scale
        width = widths[stage, s.it.clamp_max(widths.shape[1] - 1)]
        back = self._review(s, first, live & (width > 0), width, radius)
        new = self._ascend(s, first, back, grad, radius)
        s.x_cur = choose(live, new, s.x_cur)

        retry = live & first & zero & ~s.by_margin & (self.loss == "ce")
        s.by_margin |= retry
        over = live & (s.it >= ends[stage])
        s.it += (live & ~retry).long()
        s.done |= over & (s.run + 1 >= self._runs(points))
        if not self.early_stop:
            s.done |= over & s.broken
        if s.countdown > 0:
            s.countdown -= 1
            return
        if len(rows := (over & ~s.done).nonzero()[:, 0]):
            ended = s.take(rows)
            s.put(rows, self._enter(ended, ended.x_best))
        remaining = torch.where(s.done, ends.max(), ends[self._stage(s.run, points)] - s.it)
        s.countdown = max(int(remaining.amin()), 0)

    def aim(self, state: ApgdState) -> Tensor:
        if not self.targets:
            return super().aim(state)
        return state.points.target(state.run // (self.restarts * (len(self.lengths) if self.chained else 1)))

    def _runs(self, points: Points) -> Tensor | int:
        tried = points.reachable.clamp_max(self.targets) if self.targets else 1
        return tried * self.restarts * (len(self.lengths) if self.chained else 1)

    def _stage(self, run: Tensor, points: Points) -> Tensor:
        """Index into `lengths` of each run, (S,): with `large_eps` one restart has three stages."""
        return run % len(self.lengths)

    def _scale(self, run: Tensor) -> Tensor:
        """The radius of each run in units of eps, (S,)."""
        return len(self.lengths) - run % len(self.lengths) if self.chained else torch.ones_like(run)

    def _value(self, logits: Tensor, s: ApgdState) -> Tensor:
        if self.targets:
            return targeted_dlr(logits, s.points.y, self.aim(s))
        loss = LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        value = loss(logits, s.points.y)
        return torch.where(s.by_margin, margin(logits, s.points.y), value) if self.loss == "ce" else value

    def _enter(self, old: State, best: Tensor | None, start: Tensor | None = None) -> ApgdState:
        """The rows of `old` at the start of their next run; `best` is None before the first run."""
        points, x = old.points, old.points.x
        run = old.run if best is None else old.run + 1
        radius = points.eps * self._scale(run)
        start = (
            self._noise(points, run, radius)
            if start is None
            else torch.clamp(start, *self.threat.box(x.dtype))
        )
        if best is not None and self.chained:
            later = per_row(self._stage(run, points) > 0, x)
            start = torch.where(
                later, _PROJECT[self.threat.norm](best, x, radius, self.threat.box(x.dtype)), start
            )
        size = math.prod(x.shape[1:])
        changed = (start != x).flatten(1).sum(1).float()
        flag = torch.zeros_like(old.broken)
        nothing = torch.zeros_like(points.eps)
        return ApgdState(
            **old.kept(),
            run=run,
            it=torch.zeros_like(old.it),
            x_cur=start,
            x_prev=start.clone(),
            x_best=start.clone(),
            g_best=torch.zeros_like(x),
            best=nothing,
            at_check=nothing.clone(),
            last=nothing.clone(),
            rises=torch.zeros_like(old.it),
            reduced=flag,
            eta=radius * (1 if self.threat.norm == "L1" else 2),
            support=changed if self.chained else torch.full_like(nothing, size),
            fraction=changed / size / 1.5 if self.chained else torch.full_like(nothing, 0.2),
            by_margin=flag.clone(),
        )

    def _noise(self, points: Points, run: Tensor, radius: Tensor) -> Tensor:
        """Random start: uniform, scaled until its largest entry is eps (Linf); on the sphere (L2); a
        projected Gaussian (L1)."""
        x, shape = points.x, tuple(points.x.shape[1:])
        keys = rng.stream(self.seed, points.ids, ATTACKS[self.name], run)
        if self.threat.norm == "L1":
            return project_l1(x + rng.normal(keys, shape), x, radius, self.threat.box(x.dtype))
        infinite = self.threat.norm == "Linf"
        raw = 2 * rng.uniform(keys, shape) - 1 if infinite else rng.normal(keys, shape)
        unit = raw / (sample_norm(raw, math.inf if infinite else 2) + 1e-12)
        return torch.clamp(x + per_row(radius, x) * unit, *self.threat.box(x.dtype))

    def _schedule(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Last evaluation of each stage, and the number of iterations each checkpoint covers (0: none)."""
        if device not in self._tables:
            widths = torch.zeros(len(self.lengths), max(self.lengths) + 1, dtype=torch.long)
            for stage, length in enumerate(self.lengths):
                last = -1
                for at in checkpoints(length, self.threat.norm):
                    widths[stage, at + 1], last = at - last, at
            self._tables[device] = torch.tensor(self.lengths, device=device), widths.to(device)
        return self._tables[device]

    def _review(self, s: ApgdState, first: Tensor, check: Tensor, width: Tensor, radius: Tensor) -> Tensor:
        """Adapt step sizes at a checkpoint; True for the rows that return to their best point."""
        if self.threat.norm == "L1":
            count = (s.x_best != s.points.x).flatten(1).sum(1).float()
            back = check & (count / s.support < 0.95)
            eta = torch.where(back, radius, s.eta / 1.5).clamp(radius / 10, radius)
            s.eta = torch.where(check, eta, s.eta)
            s.fraction = torch.where(check, count / math.prod(s.points.x.shape[1:]) / 1.5, s.fraction)
            s.support = torch.where(check, count, s.support)
            return back
        stuck = ~s.reduced & (s.at_check >= s.best)
        back = check & ((s.rises <= self.rho * width) | stuck)
        s.reduced = first | torch.where(check, back, s.reduced)
        s.at_check = torch.where(check | first, s.best, s.at_check)
        s.rises = torch.where(check, 0, s.rises)
        s.eta = torch.where(back, s.eta / 2, s.eta)
        return back

    def _ascend(self, s: ApgdState, first: Tensor, back: Tensor, grad: Tensor, radius: Tensor) -> Tensor:
        """The next iterate of every row."""
        norm, x = self.threat.norm, s.points.x
        bounds = self.threat.box(x.dtype)
        origin = choose(back, s.x_best, s.x_cur)
        grad = choose(back, s.g_best, grad)
        up = origin + per_row(s.eta, x) * steepest(norm, grad, None, bounds, s.fraction)
        up = _PROJECT[norm](up, x, radius, bounds)
        if norm == "L1":
            return up
        moved = origin - choose(first, origin, s.x_prev)
        s.x_prev = origin.clone() if origin is s.x_best else origin  # x_best is overwritten in place
        weight = per_row(torch.where(first, 1.0, 0.75).to(x), x)
        return _PROJECT[norm](origin + (up - origin) * weight + moved * (1 - weight), x, radius, bounds)


@answers
class APGDT(APGD):
    """APGD with the targeted DLR loss, in turn for each of the `targets` wrong classes of highest clean
    logit.

    A class with the logit -inf is no target. Any misclassification is a success. The call, the other
    arguments and the errors are those of `APGD`. Source: Croce and Hein, "Reliable evaluation of adversarial
    robustness", ICML 2020, section 4 and equation 7.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import APGDT, ThreatModel
        >>> model = torch.nn.Linear(8, 4).requires_grad_(False)
        >>> x = torch.rand(5, 8)
        >>> y = model(x).argmax(1)
        >>> x_adv = APGDT(ThreatModel("L2", 2.0), targets=3, steps=10)(model, x, y)
        >>> bool((model(x_adv).argmax(1) != y).any())
        True
    """

    def __init__(
        self,
        threat: ThreatModel,
        *,
        targets: int = 9,
        steps: int = 100,
        restarts: int = 1,
        eot: int = 1,
        rho: float = 0.75,
        large_eps: bool = False,
        early_stop: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            threat,
            loss="dlr",
            steps=steps,
            restarts=restarts,
            eot=eot,
            rho=rho,
            large_eps=large_eps,
            early_stop=early_stop,
            seed=seed,
        )
        self.name, (self.targets,) = "apgd-t", positive(targets=targets)
