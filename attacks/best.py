"""The best iterate of every sample: a misclassified one wins, then the higher loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Best"]


@dataclass
class Best:
    """Images x (N, ...), their losses (N,), and which are misclassified (N,); rows are samples."""

    x: Tensor
    loss: Tensor
    broken: Tensor

    @classmethod
    def nothing_yet(cls, x: Tensor) -> "Best":
        """Starts with `x` and the loss -inf, so that the first offer wins."""
        count = x.shape[0]
        return cls(x.clone(), x.new_full((count,), -torch.inf), x.new_zeros(count, dtype=torch.bool))

    def offer(self, x: Tensor, loss: Tensor, broken: Tensor) -> None:
        """Keep the samples that are better than those held so far; a NaN loss is never better."""
        better = (broken & ~self.broken) | ((broken == self.broken) & (loss > self.loss))
        self.x = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, self.x)
        self.loss = torch.where(better, loss.to(self.loss.dtype), self.loss)
        self.broken = self.broken | broken

    def select(self, index: Tensor) -> "Best":
        """A copy of the rows `index`."""
        return Best(self.x[index], self.loss[index], self.broken[index])

    def write(self, index: Tensor, other: "Best") -> None:
        """Overwrite the rows `index` with those of `other`."""
        self.x[index], self.loss[index], self.broken[index] = other.x, other.loss, other.broken
