"""Verdicts on adversarial images of other libraries."""

import time

import torch
from torch import Tensor

from robustsabn.attacks.adapters.network import Network
from robustsabn.attacks.autoattack.autoattack import versions as common_versions
from robustsabn.attacks.autoattack.flags import by_majority, seen_on
from robustsabn.attacks.autoattack.majority import Votes, vote
from robustsabn.attacks.model.counted import mistaken
from robustsabn.attacks.model.inputs import check_batch, check_classes, check_threat, check_values, ordinary
from robustsabn.attacks.model.mode import attack_mode
from robustsabn.attacks.model.verifier import Verifier
from robustsabn.attacks.report import FRAGILE, AttackCost, Flag, Report
from robustsabn.attacks.threat import ThreatModel

__all__ = ["Tally", "admissible"]

OVERSHOOT = 1e-4
"""Share of eps by which an image may leave the ball and still be projected back."""


def admissible(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> tuple[Tensor, int]:
    """`x_adv` (N, ...) with images outside the ball or the box replaced by clean ones, and the number of
    these.

    Images outside by at most 1e-4 eps, which float32 rounding causes, are projected back and count as inside.
    """
    x_adv = x_adv.detach().to(x)
    inside = threat.project(torch.nan_to_num(x_adv), x)
    near = threat.distance(x_adv, inside) <= OVERSHOOT * threat.eps_max
    kept = near & threat.contains(inside, x)
    shape = (-1, *[1] * (x.ndim - 1))
    return torch.where(kept.view(shape), inside, x), int((~kept).sum())


class Tally:
    """The samples that are still robust, after the clean images and after each attack.

    `outside` counts images outside the ball or the box, which are no success. With `rand`, and for a model
    found to be random, verdicts are by majority, one vote for each attack on a sample."""

    def __init__(
        self,
        network: Network,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        batch_size: int,
        *,
        rand: bool = False,
    ) -> None:
        check_threat(threat)
        check_batch(network, x, y)
        largest = check_values(x, y, threat)
        x, y = ordinary(x), ordinary(y)
        self.network, self.x, self.y, self.threat = network, x, y, threat
        self.costs: list[AttackCost] = []
        self.outside = 0
        self.began = time.perf_counter()
        self.verifier = Verifier(network, x, batch_size=batch_size)
        self.clean_votes: Votes | None = None
        with attack_mode(network), torch.no_grad():
            logits = self.verifier.logits(x)
            check_classes(largest, logits)
            self.classes = logits.shape[1]
            self.clean = ~mistaken(logits, y)
            self.prediction = logits.argmax(1)
            self.flags = seen_on(self.verifier, x[:64], rand=rand)
            if rand or "randomised" in {flag.name for flag in self.flags}:
                self.clean_votes = vote(self.verifier, x, y, unusable_is_wrong=True)
                self.clean = ~self.clean_votes.wrong.to(y.device)
                self.prediction = self.clean_votes.prediction
        self.votes = self.clean_votes
        self.robust, self.x_adv = self.clean.clone(), x.clone()
        self.broken_by = torch.full_like(y, -1)
        network.costs()

    def take(self, name: str, rows: Tensor, x_adv: Tensor, seconds: float) -> None:
        """Verify the images x_adv (n, ...) that attack `name` returned for the samples `rows` (n,)."""
        forwards, backwards = self.network.costs()
        broken, checks = self._broken(rows, x_adv) if len(rows) else (rows, 0)
        self.robust[broken] = False
        self.broken_by[broken] = len(self.costs)
        accuracy = int(self.robust.sum()) / len(self.y)
        self.costs.append(
            AttackCost(
                name=name,
                points=len(rows),
                broken=len(broken),
                robust_accuracy=accuracy,
                forwards=forwards,
                backwards=backwards,
                seconds=seconds,
                checks=checks,
            )
        )
        self.network.costs()

    def _broken(self, rows: Tensor, x_adv: Tensor) -> tuple[Tensor, int]:
        """Verify `x_adv` and keep its successes; returns their rows, and the number of forwards it took."""
        x, y = self.x[rows], self.y[rows]
        candidates, outside = admissible(x_adv, x, self.threat)
        self.outside += outside
        checks = len(rows)
        with attack_mode(self.network):
            if self.votes is None:
                success = self.verifier.broken(candidates, x, y, self.threat)
            else:
                votes = vote(self.verifier, candidates, y)
                success, checks = votes.wrong.to(x.device), int(votes.asked.sum())
                self.votes = self.votes.replaced(rows[success].cpu(), votes.take(votes.wrong))
        self.x_adv[rows[success]] = candidates[success]
        return rows[success], checks

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
        ids = torch.arange(len(self.y)) if ids is None else ids.cpu()
        draws, flags = (1, 1), (*flags, *self.flags)
        if self.votes is None or self.clean_votes is None:
            with attack_mode(self.network):
                prediction, margin = self.verifier.margins(self.x_adv, self.y)
        else:
            prediction, margin = self.votes.prediction, self.votes.margin
            draws = self.clean_votes.span(self.votes)
            flags = (*flags, *by_majority(self.clean_votes, self.votes, ids))
        if self.outside:
            message = (
                f"{self.outside} images that {engine} returned are outside the ball or the box, or not "
                "finite, and do not count. This is usual for attacks that minimise the distance; otherwise "
                "check the norm."
            )
            most = 2 * self.outside > sum(cost.points for cost in self.costs)
            flags = (
                *flags,
                Flag(
                    name="outside",
                    severity="warning" if most else "note",
                    count=self.outside,
                    ids=(),
                    message=message,
                ),
            )
        nothing = torch.full_like(self.y, -1).cpu()
        return Report(
            norm=self.threat.norm,
            eps=self.threat.eps_max,
            bounds=self.threat.bounds,
            version=version,
            seed=seed,
            classes=self.classes,
            ids=ids,
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
            draws=draws,
        )
