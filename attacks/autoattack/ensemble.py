"""One evaluation under way: every attack on the points that are left, until none is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robustsabn.attacks.autoattack.majority import Votes, convincing, vote
from robustsabn.attacks.autoattack.slots import drive
from robustsabn.attacks.autoattack.verdicts import Finished, Verdicts
from robustsabn.attacks.autoattack.workers import Workers
from robustsabn.attacks.journal.journal import Journal
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.model.verifier import Verifier
from robustsabn.attacks.search.base import Points, Search, State
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["Ensemble", "ProgressEvent"]


@dataclass(frozen=True)
class ProgressEvent:
    """Attack number `index` of `attacks` has `left` of its `total` points to go; `robust` of all `n` points are.

    `seconds` is the wall time of this attack so far. The numbers are those of all processes together.
    """

    attack: str
    index: int
    attacks: int
    left: int
    total: int
    robust: int
    n: int
    seconds: float


@dataclass
class Ensemble:
    """What the attacks of one evaluation share. `x` and `y` may be on another device than the verifier's.

    `clean` (N, K) are the logits of the clean images, from which targets are ranked, on the CPU. The verdicts on a
    `random` model are by majority.
    """

    search: Model
    verifier: Verifier
    x: Tensor
    y: Tensor
    ids: Tensor
    clean: Tensor
    threat: ThreatModel
    verdicts: Verdicts
    random: bool
    workers: Workers
    journal: Journal | None
    progress: Callable[[ProgressEvent], None] | None
    clean_votes: Votes | None = field(default=None, init=False)
    final_votes: Votes | None = field(default=None, init=False)

    def run(self, attacks: list[Search[Any]]) -> float:
        """Run each attack on the points that it has not finished and nothing has broken.

        Of a random model the clean images are voted on before, into `clean_votes`, and what was found afterwards, into
        `final_votes` of all points. Returns the seconds of earlier sessions, as far as their work was kept.
        """
        if self.random:
            self.clean_votes = self._votes("clean", self.x, self.y, unusable_is_wrong=True)
            self.verdicts = Verdicts(~self.clean_votes.wrong, self.verdicts.names)
        earlier: list[list[Finished]] = [[] for _ in attacks]
        for finished in self.journal.read() if self.journal else ():
            earlier[finished.attack].append(finished)
        self._believe([finished for records in earlier for finished in records])
        self.workers.wait()  # nobody writes before all have read
        for index, attack in enumerate(attacks):
            for finished in earlier[index]:
                self.verdicts.apply(finished)
            left, began = self.verdicts.left(index), time.perf_counter()
            news = self._attack(index, attack, left, began)
            for theirs in self.workers.gather(news):
                for finished in theirs:
                    self.verdicts.apply(finished)
            if self.workers.world > 1 and left:  # others may have finished after this one
                self._tell(index, 0, len(left), int(self.verdicts.robust.sum()), began)
        if self.clean_votes:
            self.final_votes = self._settled(self.clean_votes)
        return sum(finished.seconds for records in earlier for finished in records)

    def _believe(self, records: list[Finished]) -> None:
        """Ask the model about adversarial images of earlier sessions: InputError where it gets some right, or one is too far.

        The processes share the images. A randomised model may answer differently.
        """
        if self.journal is None:
            return
        if any(self._too_far(record) for record in records):
            raise InputError(
                f"{self.journal.folder} was altered: it has adversarial images outside the {self.threat.norm} ball or the "
                "bounds; begin again in another folder"
            )
        if self.journal.answers.randomised:
            return
        said = [pair for record in records for pair in zip(record.hit.tolist(), record.images, strict=True)]
        mine, wrong, size = said[self.workers.rank :: self.workers.world], 0, self.verifier.batch_size
        for start in range(0, len(mine), size):
            numbers, images = zip(*mine[start : start + size], strict=True)
            labels = self.y[torch.tensor(numbers, device=self.y.device)].cpu()
            logits = self.verifier.logits(torch.stack(images)).cpu()
            wrong += int(self.journal.answers.contradict(logits, labels).sum())
        if count := sum(self.workers.gather(wrong)):
            raise InputError(
                f"{self.journal.folder} belongs to another model: {count} of its {len(said)} adversarial images are "
                "classified correctly now; resume with the model that it was begun with, or name another folder"
            )

    def _too_far(self, record: Finished) -> bool:
        """Whether some adversarial image is outside the ball or the bounds, by more than rounding on another device."""
        there = record.hit.to(self.x.device)
        near, images = self.threat.select(there), record.images.to(self.x.device)
        low, high = self.threat.bounds
        inside = ((images >= low - 1e-6) & (images <= high + 1e-6)).flatten(1).all(1)
        fits = near.distance(images, self.x[there]) <= torch.as_tensor(near.eps, device=images.device) * 1.001
        return not bool((inside & fits).all())

    def _attack(self, index: int, attack: Search[Any], left: list[int], began: float) -> list[Finished]:
        """Take a share of the points `left`, and note each that is finished at once."""
        last, robust = began, int(self.verdicts.robust.sum())
        ended, broken = self.workers.counter(), self.workers.counter()
        news: list[Finished] = []
        counted = CountedModel(self.search, eot=attack.eot, single=self.verifier.single)
        slots, take = self.verifier.batch_size, self.workers.share(left)
        for numbers, state in drive(attack, counted, take, self._points, slots, self._confirm):
            now = time.perf_counter()
            finished = Finished.of(index, (now - last) / self.workers.world, numbers, state)
            last = now
            news.append(finished)
            if self.journal:
                self.journal.append(finished, self.workers.rank)
            to_go = len(left) - ended(len(numbers))
            self._tell(index, to_go, len(left), robust - broken(len(finished.images)), began)
        return news

    def _tell(self, index: int, left: int, total: int, robust: int, began: float) -> None:
        if self.progress:
            names, seconds = self.verdicts.names, time.perf_counter() - began
            event = (names[index], index, len(names), left, total, robust, len(self.ids), seconds)
            self.progress(ProgressEvent(*event))

    def _points(self, numbers: list[int]) -> Points:
        rows = torch.tensor(numbers)
        there = rows.to(self.x.device)
        x, y = self.x[there].to(self.verifier.device), self.y[there].to(self.verifier.device)
        near = self.threat.select(there)
        return Points.of(x, y, self.ids[rows].to(x.device), near, self.clean[rows].to(x.device))

    def _confirm(self, state: State) -> Tensor:
        points, threat = state.points, self.threat.with_eps(state.points.eps)
        if not self.random:
            return self.verifier.broken(state.x_adv, points.x, points.y, threat)
        granted, asked = convincing(self.verifier, state.x_adv, points.y)
        state.checks += asked.to(state.checks.device) - 1
        return granted.to(points.x.device) & threat.contains(state.x_adv, points.x)

    def _settled(self, clean: Votes) -> Votes:
        """The votes on the images that are returned: one fresh one for each that was found, or that on the clean one."""
        rows = (self.verdicts.broken_by >= 0).nonzero()[:, 0]
        if not len(rows):
            return clean
        images = torch.stack([self.verdicts.images[number] for number in rows.tolist()])
        votes = self._votes("final", images, self.y[rows.to(self.y.device)])
        self.verdicts.settle(rows, votes)
        return clean.replaced(rows[votes.wrong], votes.take(votes.wrong))

    def _votes(self, name: str, x: Tensor, y: Tensor, *, unusable_is_wrong: bool = False) -> Votes:
        """The vote `name` on images x (N, ...), which the processes share and the journal keeps: it is held once."""
        if self.journal and (kept := self.journal.votes(name)):
            return kept
        rank, world = self.workers.rank, self.workers.world
        mine = vote(self.verifier, x[rank::world], y[rank::world], unusable_is_wrong=unusable_is_wrong)
        votes = Votes.interleaved(self.workers.gather(mine))
        if self.journal and rank == 0:
            self.journal.keep(name, votes)
        return votes
