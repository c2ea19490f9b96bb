"""Processes that share the points; without torch.distributed a single process takes all of them."""

from collections.abc import Callable
from itertools import count
from typing import TypeVar

import torch
from torch import distributed

from robustsabn.errors import RobustsabnError

__all__ = ["Workers"]

T = TypeVar("T")
_lists = count(1)  # all processes share the same lists in the same order, so the numbers agree


class Workers:
    """This process within the default process group; all processes call each method, in the same order."""

    def __init__(self) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.world = distributed.get_world_size() if together else 1
        self.rank = distributed.get_rank() if together else 0

    def share(self, items: list[int]) -> Callable[[int], list[int]]:
        """A function that returns the next n of `items`; each item goes to one process only.

        A process takes at most an equal share at a time, so that none is idle while another holds a large
        batch."""
        if self.world == 1:
            left = list(reversed(items))
            return lambda most: [left.pop() for _ in range(min(most, len(left)))]
        key = f"robustsabn/points/{next(_lists)}"
        store = distributed.distributed_c10d._get_default_store()
        equal = max(1, -(-len(items) // self.world))

        def take(most: int) -> list[int]:
            end = store.add(key, min(most, equal))
            return items[end - min(most, equal) : end]

        return take

    def counter(self) -> Callable[[int], int]:
        """A function that adds to a number shared by all processes, and returns the sum."""
        if self.world > 1:
            key = f"robustsabn/sum/{next(_lists)}"
            store = distributed.distributed_c10d._get_default_store()
            return lambda more: int(store.add(key, more))
        total = 0

        def add(more: int) -> int:
            nonlocal total
            total += more
            return total

        return add

    def gather(self, mine: T) -> list[T]:
        """The objects of all processes, ordered by rank, on each process."""
        if self.world == 1:
            return [mine]
        everyone: list[T | None] = [None] * self.world
        distributed.all_gather_object(everyone, mine)
        return [theirs for theirs in everyone if theirs is not None]

    def first(self, make: Callable[[], T]) -> T:
        """The result of `make`, called by process 0 before the others; an error there is raised on all."""
        failure: list[Exception | None] = [None]
        made: list[T] = []
        if self.rank == 0:
            try:
                made.append(make())
            except (RobustsabnError, OSError) as error:
                failure[0] = error
        if self.world > 1:
            distributed.broadcast_object_list(failure)
        if failure[0] is not None:
            raise failure[0]
        return made[0] if made else make()

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.world > 1:
            if torch.cuda.is_available() and distributed.get_backend() == "nccl":
                distributed.barrier(device_ids=[torch.cuda.current_device()])
            else:
                distributed.barrier()
