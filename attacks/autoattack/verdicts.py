"""The state of every point while the attacks run."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robustsabn.attacks.autoattack.majority import Votes
from robustsabn.attacks.report import AttackCost
from robustsabn.attacks.search.base import State

__all__ = ["Finished", "Verdicts"]


@dataclass(kw_only=True)
class Finished:
    """Points that attack number `attack` has finished: one row per point, on the CPU.

    `images` (B, ...) are the adversarial images of the B broken ones, in order. `seconds` is the wall time
    since the last record, divided by the number of processes. The other columns are those of `State`."""

    attack: int
    seconds: float
    numbers: Tensor
    broken: Tensor
    flat: Tensor
    strange: Tensor
    undefined: Tensor
    aimed: Tensor
    at: Tensor
    forwards: Tensor
    backwards: Tensor
    checks: Tensor
    images: Tensor

    @classmethod
    def of(cls, attack: int, seconds: float, numbers: list[int], state: State) -> "Finished":
        names = ("broken", "flat", "strange", "undefined", "aimed", "at", "forwards", "backwards", "checks")
        columns = {name: getattr(state, name).cpu() for name in names}
        broken = state.x_adv[state.broken].float().cpu()
        return cls(attack=attack, seconds=seconds, numbers=torch.tensor(numbers), images=broken, **columns)

    @property
    def hit(self) -> Tensor:
        """Numbers of the broken points, in the order of `images`."""
        return self.numbers[self.broken]

    def columns(self) -> dict[str, Tensor]:
        """The columns with one number per point."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: v for name, v in values.items() if isinstance(v, Tensor) and name != "images"}


class Verdicts:
    """Which points are robust, which attack broke the others and how, and the cost; takes `Finished` in any
    order.

    `clean` (N,) bool: the clean image is classified correctly; misclassified images are never attacked.
    """

    def __init__(self, clean: Tensor, names: list[str]) -> None:
        count = len(clean)
        self.clean, self.robust, self.names = clean, clean.clone(), names
        self.broken_by = torch.full((count,), -1)
        self.aimed, self.at = self.broken_by.clone(), self.broken_by.clone()
        self.flat, self.strange, self.undefined = (torch.zeros_like(clean) for _ in "123")
        self.images: dict[int, Tensor] = {}
        self._finished = torch.zeros(len(names), count, dtype=torch.bool)
        self._forwards, self._backwards, self._checks = (
            torch.zeros(len(names), dtype=torch.long) for _ in "123"
        )
        self._seconds = [0.0] * len(names)

    def apply(self, finished: Finished) -> None:
        """Add a record; points that this attack has finished before are ignored."""
        attack, fresh = finished.attack, ~self._finished[finished.attack, finished.numbers]
        numbers, broken = finished.numbers[fresh], (finished.broken & fresh)[fresh]
        self._finished[attack, numbers] = True
        self.flat[numbers] |= finished.flat[fresh]
        self.strange[numbers] |= finished.strange[fresh]
        self.undefined[numbers] |= finished.undefined[fresh]
        hit = numbers[broken]
        self.robust[hit], self.broken_by[hit] = False, attack
        self.aimed[hit], self.at[hit] = finished.aimed[fresh][broken], finished.at[fresh][broken]
        kept = fresh[finished.broken]
        for number, image in zip(hit.tolist(), finished.images[kept], strict=True):
            self.images[number] = image
        self._forwards[attack] += finished.forwards[fresh].sum()
        self._backwards[attack] += finished.backwards[fresh].sum()
        self._checks[attack] += finished.checks[fresh].sum()
        self._seconds[attack] += finished.seconds

    def settle(self, rows: Tensor, votes: Votes) -> None:
        """Apply final votes on the broken points `rows` (M,): those with most forwards right are robust."""
        self._checks.index_add_(0, self.broken_by[rows], votes.asked)
        refused = rows[~votes.wrong]
        self.robust[refused] = True
        for column in (self.broken_by, self.aimed, self.at):
            column[refused] = -1
        for number in refused.tolist():
            del self.images[number]

    def left(self, attack: int) -> list[int]:
        """Numbers of the robust points that the attack has not finished, in order."""
        return (self.robust & ~self._finished[attack]).nonzero()[:, 0].tolist()

    def costs(self) -> tuple[AttackCost, ...]:
        """The costs, attack by attack."""
        count = max(len(self.clean), 1)
        broken = [int((self.broken_by == i).sum()) for i in range(len(self.names))]
        standing = int(self.clean.sum())
        return tuple(
            AttackCost(
                name=name,
                points=int(self._finished[i].sum()),
                broken=broken[i],
                robust_accuracy=(standing - sum(broken[: i + 1])) / count,
                forwards=int(self._forwards[i]),
                backwards=int(self._backwards[i]),
                seconds=self._seconds[i],
                checks=int(self._checks[i]),
            )
            for i, name in enumerate(self.names)
        )

    def adversarial(self, x: Tensor) -> Tensor:
        """A copy of `x` (N, ...) on the CPU, with the adversarial images of broken points."""
        x_adv = x.detach().float().cpu().clone()
        for number, image in self.images.items():
            x_adv[number] = image
        return x_adv
