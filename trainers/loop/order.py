"""In which order images are trained on: a function of the seed and of how many went before."""

import torch
from torch import Tensor

from robustsabn.trainers.loop.draws import epoch_order

__all__ = ["Passes", "spread"]


class Passes:
    """The images 0 … n - 1 over and over, every pass through all of them in a random order of its own."""

    def __init__(self, n: int, seed: int, purpose: str = "order") -> None:
        self.n, self.seed, self.purpose = n, seed, purpose
        # the last pass that was asked for; one object, because another thread may read ahead
        self._known = -1, torch.empty(0)

    def places(self, start: int, count: int) -> Tensor:
        """The images at the positions `start` … `start + count - 1` of this sequence, (count,) int64."""
        found = []
        while count > 0:
            number, place = divmod(start, self.n)
            part = self._order(number)[place : place + count]
            found.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(found)

    def _order(self, number: int) -> Tensor:
        known, order = self._known
        if number != known:
            order = epoch_order(self.n, self.seed, number, self.purpose)
            self._known = number, order
        return order


def spread(count: int, size: int) -> Tensor:
    """`count` of `size` places, evenly spread: bool (size,)."""
    return torch.arange(1, size + 1) * count // size > torch.arange(size) * count // size
