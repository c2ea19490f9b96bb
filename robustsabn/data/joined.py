"""Two sets of images as one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustsabn.data.sets import ArraySet, Device, ImageSet

__all__ = ["JoinedSet"]


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

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) float32 in [0, 1] and labels (n,) at `indices` (n,) int64 on the CPU."""
        beyond = indices >= len(self.first)
        x, y = self.first.batch(indices[~beyond], device)
        x_, y_ = self.second.batch(indices[beyond] - len(self.first), device)
        # the inverse of the permutation that sorts `indices` by set
        back = beyond.int().argsort(stable=True).argsort().to(x.device, non_blocking=True)
        return torch.cat([x, x_])[back], torch.cat([y, y_])[back]
