"""Verdicts on the adversarial images that other code returns."""

import time

import torch
from torch import Tensor

from robustsabn.attacks.adapters.network import Network
from robustsabn.attacks.autoattack import versions as common_versions
from robustsabn.attacks.inputs import check_batch, check_classes, check_threat, check_values, ordinary
from robustsabn.attacks.judge import Judge
from robustsabn.attacks.mode import attack_mode
from robustsabn.attacks.oracle import mistaken
from robustsabn.attacks.report import FRAGILE, AttackCost, Flag, Report
from robustsabn.attacks.threat import ThreatModel

__all__ = ["Tally", "admissible"]

OVERSHOOT = 1e-4
"""Share of eps by which an image may leave the ball and is still taken, projected back."""


def admissible(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> tuple[Tensor, int]:
    """`x_adv` (N, ...) inside ball and box, and how many were not: those are clean images in what is returned.

    Overshoots of up to 1e-4 eps, which float32 causes, are projected back and count as inside.
    """
    x_adv = x_adv.detach().to(x)
    inside = threat.project(torch.nan_to_num(x_adv), x)
    near = threat.distance(x_adv, inside) <= OVERSHOOT * threat.eps_max
    kept = near & threat.contains(inside, x)
    shape = (-1, *[1] * (x.ndim - 1))
    return torch.where(kept.view(shape), inside, x), int((~kept).sum())


class Tally:
    """Which samples stand, after the clean images and after each attack. `outside`: images that did not count."""

    def __init__(self, network: Network, x: Tensor, y: Tensor, threat: ThreatModel, batch_size: int) -> None:
        check_threat(threat)
        check_batch(network, x, y)
        largest = check_values(x, y, threat)
        x, y = ordinary(x), ordinary(y)
        self.network, self.x, self.y, self.threat = network, x, y, threat
        self.costs: list[AttackCost] = []
        self.outside = 0
        self.began = time.perf_counter()
        self.judge = Judge(network, x, batch_size=batch_size)
        with attack_mode(network):
            logits = self.judge.logits(x)
        check_classes(largest, logits)
        self.classes = logits.shape[1]
        self.clean = ~mistaken(logits, y)
        self.prediction = logits.argmax(1)
        self.robust, self.x_adv = self.clean.clone(), x.clone()
        self.broken_by = torch.full_like(y, -1)
        network.costs()

    def take(self, name: str, rows: Tensor, x_adv: Tensor, seconds: float) -> None:
        """Judge what attack `name` made of the samples `rows` (n,)."""
        forwards, backwards = self.network.costs()
        broken = self._broken(rows, x_adv) if len(rows) else rows
        self.robust[broken] = False
        self.broken_by[broken] = len(self.costs)
        accuracy = int(self.robust.sum()) / len(self.y)
        self.costs.append(
            AttackCost(name, len(rows), len(broken), accuracy, forwards, backwards, seconds, len(rows))
        )
        self.network.costs()

    def _broken(self, rows: Tensor, x_adv: Tensor) -> Tensor:
        """Those of `rows` for which `x_adv` is a success; its images are kept."""
        x, y = self.x[rows], self.y[rows]
        candidates, outside = admissible(x_adv, x, self.threat)
        self.outside += outside
        with attack_mode(self.network):
            success = self.judge.broken(candidates, x, y, self.threat)
        self.x_adv[rows[success]] = candidates[success]
        return rows[success]

    def report(
        self,
        *,
        engine: str,
        version: str,
        seed: int,
        ids: Tensor | None,
        versions: dict[str, str],
        flags: tuple[Flag, ...] = (),
    ) -> Report:
        """The verdicts as a report; `versions` names the package that ran."""
        with attack_mode(self.network):
            prediction, margin = self.judge.margins(self.x_adv, self.y)
        if self.outside:
            said = (
                f"{self.outside} images that {engine} returned lie outside the ball or the box, or are not finite, and "
                "do not count. That is usual where an attack minimises the distance; else check its norm."
            )
            most = 2 * self.outside > sum(cost.points for cost in self.costs)
            flags = (*flags, Flag("outside", "warning" if most else "note", self.outside, (), said))
        nothing = torch.full_like(self.y, -1).cpu()
        return Report(
            norm=self.threat.norm,
            eps=self.threat.eps_max,
            bounds=self.threat.bounds,
            version=version,
            seed=seed,
            classes=self.classes,
            ids=torch.arange(len(self.y)) if ids is None else ids.cpu(),
            y=self.y.cpu(),
            clean=self.clean.cpu(),
            robust=self.robust.cpu(),
            x_adv=self.x_adv.cpu(),
            clean_prediction=self.prediction.cpu(),
            adversarial_prediction=prediction,
            broken_by=self.broken_by.cpu(),
            target=nothing,
            iteration=nothing.clone(),
            margin=margin,
            distance=self.threat.distance(self.x_adv, self.x).float().cpu(),
            fragile=margin.abs() <= FRAGILE,
            attacks=tuple(self.costs),
            flags=flags,
            seconds=time.perf_counter() - self.began,
            versions={**common_versions(self.x.device), **versions},
            engine=engine,
        )
