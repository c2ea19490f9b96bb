"""The order of training images, from the seed and the number of images seen before."""

import torch
from torch import Tensor

from robustsabn.trainers.loop.draws import epoch_order

__all__ = ["Passes", "spread"]


class Passes:
    """The images 0 … n - 1 repeated without end, each pass in its own random order."""

    def __init__(self, n: int, seed: int, purpose: str = "order") -> None:
        self.n, self.seed, self.purpose = n, seed, purpose
        # the last pass used; one tuple, because another thread may read ahead
        self._known = -1, torch.empty(0)

    def places(self, start: int, count: int) -> Tensor:
        """The images at the positions `start` … `start + count - 1` of this sequence, (count,) int64."""
        parts = []
        while count > 0:
            number, place = divmod(start, self.n)
            part = self._order(number)[place : place + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(parts)

    def _order(self, number: int) -> Tensor:
        known, order = self._known
        if number != known:
            order = epoch_order(self.n, self.seed, number, self.purpose)
            self._known = number, order
        return order


def spread(count: int, size: int) -> Tensor:
    """A mask of `size` places with `count` of them set, evenly spread: bool (size,)."""
    return torch.arange(1, size + 1) * count // size > torch.arange(size) * count // size
