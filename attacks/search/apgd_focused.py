"""Targeted APGD in two rounds: a short run for each target, then long runs for the most promising ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustsabn.attacks.counts import positive
from robustsabn.attacks.search.apgd import APGDT, ApgdState
from robustsabn.attacks.search.base import Points, State
from robustsabn.attacks.threat import ThreatModel

__all__ = ["FocusedAPGDT"]


@dataclass(kw_only=True)
class FocusedState(ApgdState):
    """`reached` (S, T): the highest loss of the short run for each target."""

    reached: Tensor


class FocusedAPGDT(APGDT):
    """APGD-T in two rounds: `steps` iterations for each of `targets`, then `long` for the best `most` of
    them.

    It is not part of the published ensemble. To rank targets by the loss that an attack reaches, instead of
    by clean logits, is an idea of Liu et al., "Practical evaluation of adversarial robustness via adaptive
    auto attack", CVPR 2022, and, in another form, of Melamed et al., "MALT powers up adversarial attacks",
    2024."""

    def __init__(
        self,
        threat: ThreatModel,
        *,
        targets: int = 9,
        steps: int = 20,
        most: int = 3,
        long: int = 60,
        early_stop: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(threat, targets=targets, steps=steps, early_stop=early_stop, seed=seed)
        self.most, long = positive(most=most, long=long)
        self.name, self.lengths = "apgd-focused", [self.steps, long]

    def aim(self, state: ApgdState) -> Tensor:
        assert isinstance(state, FocusedState)
        tried = self._tried(state.points)
        second = state.run - tried
        order = state.reached.argsort(dim=1, descending=True, stable=True)
        promising = order.gather(1, torch.minimum(second.clamp_min(0), tried - 1)[:, None])[:, 0]
        return state.points.target(torch.where(second >= 0, promising, state.run))

    def _tried(self, points: Points) -> Tensor:
        return points.reachable.clamp_max(self.targets)

    def _runs(self, points: Points) -> Tensor:
        return self._tried(points) + self._tried(points).clamp_max(self.most)

    def _stage(self, run: Tensor, points: Points) -> Tensor:
        return (run >= self._tried(points)).long()

    def _enter(self, old: State, best: Tensor | None, start: Tensor | None = None) -> FocusedState:
        fresh = super()._enter(old, best, start)
        reached = old.points.eps.new_full((len(old.run), old.points.targets.shape[1]), -torch.inf)
        if isinstance(old, FocusedState):
            current = torch.arange(reached.shape[1], device=old.run.device) == old.run[:, None]
            current &= (old.run < self._tried(old.points))[:, None]
            reached = torch.where(current, old.best[:, None], old.reached)
        return FocusedState(**vars(fresh), reached=reached)
