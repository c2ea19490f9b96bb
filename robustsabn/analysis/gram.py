"""Lengths and directions of the gradients of several routes, from their inner products."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

__all__ = ["Gram", "gram", "together"]


@dataclass(frozen=True)
class Gram:
    """Inner products <v_i, v_j> of the gradients v_1 to v_R that R routes give one tensor.

    With the norms n_i = ||v_i||; numbers that are not defined are NaN.

    - layer: its name; products: R rows of R numbers.
    - norms: (n_1, ..., n_R).
    - balance: std_i(n_i) / mean_i(n_i), with the population's deviation; 0 if the routes pull equally hard.
    - log_ratio: log2(n_2 / n_1), for two routes only.
    - cosine: mean of <v_i, v_j> / (n_i n_j) over the pairs i < j whose gradients are not zero.
    - diversity: 1 - cosine; 0 if all routes pull the same way.
    - gradient_diversity: sum_i n_i^2 / ||sum_i v_i||^2; 1 / R for equal gradients, 1 for orthogonal ones.

    Balance, cosine and diversity are our definitions of what arXiv 2102.11382 calls balanced norms and
    diverse directions. Gradient diversity: Yin et al., AISTATS 2018, definition 1.

    Example:

        >>> from robustsabn.analysis import Gram
        >>> pair = Gram("conv", ((9.0, 0.0), (0.0, 1.0)))
        >>> pair.norms, pair.balance, pair.cosine, pair.gradient_diversity
        ((3.0, 1.0), 0.5, 0.0, 1.0)
    """

    layer: str
    products: tuple[tuple[float, ...], ...]

    @property
    def norms(self) -> tuple[float, ...]:
        return tuple(math.sqrt(row[i]) for i, row in enumerate(self.products))

    @property
    def balance(self) -> float:
        return _ratio(statistics.pstdev(self.norms), statistics.fmean(self.norms))

    @property
    def log_ratio(self) -> float:
        if len(self.products) != 2 or not all(self.norms):
            return math.nan
        first, second = self.norms
        return math.log2(second / first)

    @property
    def cosine(self) -> float:
        norms = self.norms
        pairs = [
            self.products[i][j] / (norms[i] * norms[j])
            for i, j in combinations(range(len(norms)), 2)
            if norms[i] and norms[j]
        ]
        return statistics.fmean(pairs) if pairs else math.nan

    @property
    def diversity(self) -> float:
        return 1 - self.cosine

    @property
    def gradient_diversity(self) -> float:
        alone = sum(row[i] for i, row in enumerate(self.products))
        return _ratio(alone, sum(map(sum, self.products)))

    def to_dict(self) -> dict[str, Any]:
        """Name, norms and what follows from them, and the inner products."""
        derived = ("norms", "balance", "log_ratio", "cosine", "diversity", "gradient_diversity")
        return {"layer": self.layer, **{name: getattr(self, name) for name in derived}} | {
            "products": self.products
        }


def gram(layer: str, gradients: Sequence[Tensor]) -> Gram:
    """The inner products, in float64, of the gradients of the routes, tensors of equal shape."""
    wide = torch.float32 if gradients[0].device.type == "mps" else torch.float64
    rows = torch.stack([g.flatten() for g in gradients]).to(wide)
    return Gram(layer, tuple(map(tuple, (rows @ rows.T).tolist())))


def together(layer: str, grams: Sequence[Gram]) -> Gram:
    """The inner products of the gradients of all the layers as one vector."""
    tables = [torch.tensor(one.products, dtype=torch.float64) for one in grams]
    return Gram(layer, tuple(map(tuple, torch.stack(tables).sum(0).tolist())))


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan
