"""Two sets of images as one."""

from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from robustsabn.data.own.items import ItemSet
from robustsabn.data.sets import ArraySet, Device, ImageSet

__all__ = ["JoinedSet", "drawn", "worker_processes"]

S = TypeVar("S")


def drawn(images: S, draw: int) -> S:
    """`images`, with other random numbers for the random transforms of items."""
    return cast(S, images.drawn(draw)) if isinstance(images, (ItemSet, JoinedSet)) else images


def worker_processes(images: object) -> int | None:
    """Processes that read items of the user's own dataset; None if there is no such dataset."""
    if isinstance(images, JoinedSet):
        own = [worker_processes(each) for each in (images.first, images.second)]
        return max((each for each in own if each is not None), default=None)
    return images.workers if isinstance(images, ItemSet) else None


@dataclass(frozen=True, eq=False)
class JoinedSet:
    """The images of `first`, followed by those of `second`."""

    first: ImageSet
    second: ImageSet

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.first, ArraySet) and isinstance(self.second, ArraySet)

    def drawn(self, draw: int) -> "JoinedSet":
        """The same images, with other random numbers for random transforms."""
        return JoinedSet(drawn(self.first, draw), drawn(self.second, draw))

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) float32 in [0, 1] and labels (n,) at `indices` (n,) int64 on the CPU."""
        beyond = indices >= len(self.first)
        x, y = self.first.batch(indices[~beyond], device)
        x_, y_ = self.second.batch(indices[beyond] - len(self.first), device)
        # the inverse of the permutation that sorts `indices` by set
        back = beyond.int().argsort(stable=True).argsort().to(x.device, non_blocking=True)
        return torch.cat([x, x_])[back], torch.cat([y, y_])[back]
