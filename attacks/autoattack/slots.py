"""Continuous batching: a fixed number of slots, refilled from a queue when points break or finish."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Generic, TypeVar

import torch
from torch import Tensor

from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.model.rows import ROWS, slots_for
from robustsabn.attacks.search.base import Points, Search, State

__all__ = ["drive"]

S = TypeVar("S", bound=State)

# Reading a flag from an accelerator waits for its queue of kernels: do it once in this many steps.
_POLL = 8
_SECONDS = 0.2  # between two reports of progress


def drive(
    attack: Search[S],
    counted: CountedModel,
    take: Callable[[int], list[int]],
    points: Callable[[list[int]], Points],
    slots: int,
    confirm: Callable[[S], Tensor] | None = None,
    watch: Callable[[int], None] | None = None,
) -> Iterator[tuple[list[int], S]]:
    """Attack all points that `take` gives out; yields (numbers, final state of these points) as they finish.

    - take(n) returns the numbers of at most n points, and none when no work is left; `points` loads them.
    - confirm verifies rows that claim success, bool per row; a refused row continues its search.
    - watch is told a few times a second how many iterations the unfinished points have had, together.

    If memory runs out, the slots are halved and unfinished points start again with the same random numbers.
    The result of a point depends on `slots` and its neighbours only through the rounding of the network."""
    waiting: deque[int] = deque()

    def more(count: int) -> list[int]:
        while len(waiting) < count and (fresh := take(count - len(waiting))):
            waiting.extend(fresh)
        return [waiting.popleft() for _ in range(min(count, len(waiting)))]

    while first := more(slots):
        batch = _Slots(attack, points, first, min(slots, slots_for(slots, len(first))))
        try:
            yield from batch.work(counted, more, confirm, watch)
        except torch.OutOfMemoryError:
            if len(batch.numbers) <= ROWS:
                raise
            waiting.extendleft(reversed(batch.in_flight))
            slots = slots_for(len(batch.numbers) // 2, slots)
        else:
            continue
        del batch  # only here: while the error is handled, its frames hold the tensors too
        torch.cuda.empty_cache()


class _Slots(Generic[S]):
    """The state of all slots, and the number of the point in each; None for a vacant slot."""

    state: S

    def __init__(
        self, attack: Search[S], points: Callable[[list[int]], Points], first: list[int], slots: int
    ) -> None:
        self.attack, self.points, self.first = attack, points, first
        self.numbers: list[int | None] = [*first, *[None] * (slots - len(first))]

    def work(
        self,
        counted: CountedModel,
        more: Callable[[int], list[int]],
        confirm: Callable[[S], Tensor] | None,
        watch: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[list[int], S]]:
        """Attack the first points, and `more` in slots that become vacant, until none is left."""
        vacant = len(self.numbers) - len(self.first)
        self.state = self.attack.begin(self.points(self.first + self.first[:1] * vacant))
        self.state.done[len(self.first) :] = True
        told = time.perf_counter()
        while self.occupied:
            for _ in range(1 if self.state.broken.is_cpu else _POLL):
                self.attack.step(self.state, counted)
            if ended := self.ended(confirm):
                yield self.finished(ended)
                self.refill(ended, more(len(ended)))
            if watch and (now := time.perf_counter()) - told > _SECONDS:
                told = now
                watch(self.spent())

    def spent(self) -> int:
        """Iterations of the points in the slots so far."""
        rows = [row for row, number in enumerate(self.numbers) if number is not None]
        return int(self.attack.spent(self.state)[rows].sum())

    @property
    def in_flight(self) -> list[int]:
        return [number for number in self.numbers if number is not None]

    @property
    def occupied(self) -> bool:
        return any(number is not None for number in self.numbers)

    def ended(self, confirm: Callable[[S], Tensor] | None) -> list[int]:
        """Slots whose point is finished, or broken and confirmed."""
        flags = torch.stack([self.state.broken, self.state.done]).tolist()
        claims = [row for row, number in enumerate(self.numbers) if number is not None and flags[0][row]]
        if claims and confirm:
            rows = torch.tensor(claims, device=self.state.broken.device)
            claimed = self.state.take(rows)
            claimed.checks += 1
            granted = confirm(claimed)  # which may count further checks
            self.state.broken[rows], self.state.checks[rows] = granted, claimed.checks
            claims = [row for row, sure in zip(claims, granted.tolist(), strict=True) if sure]
        finished = {row for row, number in enumerate(self.numbers) if number is not None and flags[1][row]}
        return sorted(finished | set(claims))

    def finished(self, rows: list[int]) -> tuple[list[int], S]:
        numbers = [number for row in rows if (number := self.numbers[row]) is not None]
        return numbers, self.state.take(torch.tensor(rows, device=self.state.broken.device))

    def refill(self, rows: list[int], fresh: list[int]) -> None:
        """Put the points `fresh` into the slots `rows`; halve the slots when fewer than half are occupied."""
        device = self.state.broken.device
        for row, number in zip_longest(rows, fresh):
            self.numbers[row] = number
        if fresh:
            begun = self.attack.begin(self.points(fresh))
            self.state.put(torch.tensor(rows[: len(fresh)], device=device), begun)
        if vacant := rows[len(fresh) :]:
            self.state.done[torch.tensor(vacant, device=device)] = True
            kept = [row for row, number in enumerate(self.numbers) if number is not None]
            size = slots_for(len(self.numbers), max(1, len(kept)))
            if kept and 2 * size <= len(self.numbers):
                chosen = (kept + vacant)[:size]
                self.numbers = [self.numbers[row] for row in chosen]
                self.state = self.state.take(torch.tensor(chosen, device=device))
