"""One evaluation: runs every attack on the points that are still robust."""

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
from robustsabn.attacks.report import ProgressEvent
from robustsabn.attacks.search.base import Points, Search, State
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["Ensemble"]


@dataclass(kw_only=True)
class Ensemble:
    """What the attacks of one evaluation share; `x` and `y` may be on another device than the verifier.

    `clean` (N, K): logits of the clean images, on the CPU, by which targets are ranked. `random`: verdicts
    are by majority."""

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
        """Run each attack on the robust points that it has not finished yet.

        For a random model, `clean_votes` are taken on the clean images before, and `final_votes` on the
        adversarial images after. Returns the seconds that earlier calls spent on the work found in the
        journal."""
        if self.random:
            self.clean_votes = self._votes("clean", self.x, self.y, unusable_is_wrong=True)
            self.verdicts = Verdicts(~self.clean_votes.wrong, self.verdicts.names)
        earlier: list[list[Finished]] = [[] for _ in attacks]
        for finished in self.journal.read() if self.journal else ():
            earlier[finished.attack].append(finished)
        self._check_earlier([finished for records in earlier for finished in records])
        self.workers.wait()  # no process writes before all have read
        for index, attack in enumerate(attacks):
            for finished in earlier[index]:
                self.verdicts.apply(finished)
            pending, began = self.verdicts.left(index), time.perf_counter()
            news = self._attack(index, attack, pending, began)
            for theirs in self.workers.gather(news):
                for finished in theirs:
                    self.verdicts.apply(finished)
            if self.workers.world > 1 and pending:  # other processes may have finished later
                self._tell(index, 0, len(pending), int(self.verdicts.robust.sum()), began)
        if self.clean_votes:
            self.final_votes = self._settled(self.clean_votes)
        return sum(finished.seconds for records in earlier for finished in records)

    def _check_earlier(self, records: list[Finished]) -> None:
        """Verify the adversarial images found in the journal; the processes share them.

        Raises InputError where one is outside the ball or the bounds, or where the model classifies one
        correctly, which a random model may do.
        """
        if self.journal is None:
            return
        if any(self._too_far(record) for record in records):
            raise InputError(
                f"{self.journal.folder} was altered: it holds adversarial images outside the "
                f"{self.threat.norm} ball or the bounds; start again in another folder"
            )
        if self.journal.answers.randomised:
            return
        claims = [pair for record in records for pair in zip(record.hit.tolist(), record.images, strict=True)]
        mine, wrong, size = claims[self.workers.rank :: self.workers.world], 0, self.verifier.batch_size
        for start in range(0, len(mine), size):
            numbers, images = zip(*mine[start : start + size], strict=True)
            labels = self.y[torch.tensor(numbers, device=self.y.device)].cpu()
            logits = self.verifier.logits(torch.stack(images)).cpu()
            wrong += int(self.journal.answers.contradict(logits, labels).sum())
        if count := sum(self.workers.gather(wrong)):
            raise InputError(
                f"{self.journal.folder} belongs to another model: {count} of its {len(claims)} adversarial "
                "images are classified correctly now; resume with the model it was started with, or give "
                "another folder"
            )

    def _too_far(self, record: Finished) -> bool:
        """Whether some image is outside the ball or the bounds, beyond the rounding of another device."""
        there = record.hit.to(self.x.device)
        near, images = self.threat.select(there), record.images.to(self.x.device)
        low, high = self.threat.bounds
        inside = ((images >= low - 1e-6) & (images <= high + 1e-6)).flatten(1).all(1)
        fits = near.distance(images, self.x[there]) <= torch.as_tensor(near.eps, device=images.device) * 1.001
        return not bool((inside & fits).all())

    def _attack(self, index: int, attack: Search[Any], left: list[int], began: float) -> list[Finished]:
        """Attack this process's share of the points `left`; the journal gets each as soon as it is done."""
        last, robust = began, int(self.verdicts.robust.sum())
        ended, broken = self.workers.counter(), self.workers.counter()
        news: list[Finished] = []
        counted = CountedModel(self.search, eot=attack.eot, single=self.verifier.single)
        slots, take = self.verifier.batch_size, self.workers.share(left)
        to_go, standing = len(left), robust

        def watch(spent: int) -> None:
            self._tell(index, to_go, len(left), standing, began, attack.longest, spent)

        if left:
            watch(0)
        shown = watch if self.progress else None
        for numbers, state in drive(attack, counted, take, self._points, slots, self._confirm, shown):
            now = time.perf_counter()
            finished = Finished.of(index, (now - last) / self.workers.world, numbers, state)
            last = now
            news.append(finished)
            if self.journal:
                self.journal.append(finished, self.workers.rank)
            to_go = len(left) - ended(len(numbers))
            standing = robust - broken(len(finished.images))
            watch(0)
        return news

    def _tell(
        self, index: int, left: int, total: int, robust: int, began: float, longest: int = 0, spent: int = 0
    ) -> None:
        """Report progress; `spent` are iterations of unfinished points, of `longest` for each point."""
        if self.progress:
            names, seconds = self.verdicts.names, time.perf_counter() - began
            self.progress(
                ProgressEvent(
                    attack=names[index],
                    index=index,
                    attacks=len(names),
                    left=left,
                    total=total,
                    robust=robust,
                    n=len(self.ids),
                    seconds=seconds,
                    done=(total - left) * longest + min(spent, left * longest),
                    work=total * longest,
                )
            )

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
        """The votes on the returned images: new ones on adversarial images, else those on the clean ones."""
        rows = (self.verdicts.broken_by >= 0).nonzero()[:, 0]
        if not len(rows):
            return clean
        images = torch.stack([self.verdicts.images[number] for number in rows.tolist()])
        votes = self._votes("final", images, self.y[rows.to(self.y.device)])
        self.verdicts.settle(rows, votes)
        return clean.replaced(rows[votes.wrong], votes.take(votes.wrong))

    def _votes(self, name: str, x: Tensor, y: Tensor, *, unusable_is_wrong: bool = False) -> Votes:
        """The vote `name` on images x (N, ...), shared by the processes and kept in the journal."""
        if self.journal and (kept := self.journal.votes(name)):
            return kept
        rank, world = self.workers.rank, self.workers.world
        mine = vote(self.verifier, x[rank::world], y[rank::world], unusable_is_wrong=unusable_is_wrong)
        votes = Votes.interleaved(self.workers.gather(mine))
        if self.journal and rank == 0:
            self.journal.keep(name, votes)
        return votes
