"""What a route can be: the forms of a selection, checked as far as that needs no model."""

from __future__ import annotations

import math
from numbers import Integral, Real
from types import NoneType
from typing import SupportsFloat, SupportsIndex, TypeAlias, TypeGuard

from torch import Tensor

from robustsabn.errors import RouteError
from robustsabn.text import quote, shorten

__all__ = [
    "Blend",
    "Condition",
    "Resolved",
    "Selection",
    "Split",
    "is_blend",
    "is_condition",
    "is_integer",
    "is_whole_batch",
]


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, of Python or NumPy, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _number(value: SupportsFloat) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


class Split:
    """Consecutive parts of one batch, each through its own route: `Split(clean=64, adv=64)`.

    Routes without a name are given as pairs: `Split((0, 64), (1, 64))`. Sizes are in samples; a part may be empty.
    """

    def __init__(self, *parts: tuple[str | SupportsIndex, SupportsIndex], **named: SupportsIndex) -> None:
        for part in parts:
            if not isinstance(part, (tuple, list)) or len(part) != 2:
                raise RouteError(
                    f"Split({quote(part)}): a part is a pair (route, size), or named: Split(clean=64)"
                )
        pairs = (*parts, *named.items())
        if not pairs:
            raise RouteError("Split() has no parts; write for example Split(clean=64, adv=64)")
        for name, size in pairs:
            if not is_integer(size) or size < 0:
                raise RouteError(
                    f"Split({shorten(name)}={quote(size)}): a size is a number of samples, an int of at least 0"
                )
        self.parts: tuple[tuple[str | SupportsIndex, int], ...] = tuple(
            (name, int(size)) for name, size in pairs
        )

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{name}={size}' for name, size in self.parts)})"


class Blend:
    """Convex mix of effective affines and statistics: `Blend(clean=0.3, adv=0.7)` or `Blend(weights)`.

    `weights` is a float tensor (R,), which may require grad (mixture weights of a search). Named weights are at least
    0 and sum to 1; routes left out have weight 0.
    """

    def __init__(self, weights: Tensor | None = None, **named: SupportsFloat) -> None:
        if (weights is None) == (not named):
            raise RouteError(
                "Blend takes either one tensor of weights or named weights: Blend(clean=.3, adv=.7)"
            )
        numbers = all(isinstance(w, Real) and not isinstance(w, bool) for w in named.values())
        if not numbers or not isinstance(weights, (Tensor, NoneType)):
            given = quote(named if weights is None else weights)
            raise RouteError(
                f"Blend({given}): give numbers, Blend(clean=.3, adv=.7), or one float tensor (R,)"
            )
        self.named = {name: _number(weight) for name, weight in named.items()}
        total = sum(self.named.values())
        if named and not (all(w >= 0 for w in self.named.values()) and math.isclose(total, 1, abs_tol=1e-6)):
            raise RouteError(
                f"Blend({quote(named)}): weights are at least 0 and sum to 1, these sum to {total:g}"
            )
        if weights is not None and not weights.is_floating_point():
            raise RouteError(f"Blend: weights of dtype {weights.dtype}; give a float tensor (R,)")
        if weights is not None and (weights.is_sparse or not weights.numel()):
            raise RouteError(f"Blend: weights {quote(weights)}; give a dense float tensor (R,)")
        self.weights = weights

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v:g}" for k, v in self.named.items()) if self.named else "weights"
        return f"Blend({inner})"


class Condition:
    """A vector for each sample, of which layers built with `condition=D` take linear maps: `Condition(y)`.

    y is a float tensor (N, D), and may require grad: an embedding of the class beside a part of the latent
    (BigGAN, arXiv 1809.11096). RouteError for anything else.
    """

    def __init__(self, vectors: Tensor) -> None:
        if not isinstance(vectors, Tensor):
            raise RouteError(
                f"Condition({quote(vectors)}): give a float tensor (N, D), one vector for each sample"
            )
        if not vectors.is_floating_point() or vectors.is_sparse or vectors.ndim != 2:
            raise RouteError(
                f"Condition: vectors of dtype {vectors.dtype} and shape {tuple(vectors.shape)}; "
                "give a dense float tensor (N, D), one vector for each sample"
            )
        self.vectors = vectors

    def __repr__(self) -> str:
        return f"Condition({len(self.vectors)} vectors of {self.vectors.shape[1]})"


Selection: TypeAlias = "str | int | Tensor | Split | Blend | Condition | None"

Resolved: TypeAlias = "int | Tensor | tuple[tuple[int, int], ...] | None"
"""What layers read: route index | LongTensor (N,) | float Tensor (R,) of a Blend | float Tensor (N, D) of a Condition |
((route, size), ...) | None."""


def is_blend(selection: Resolved) -> TypeGuard[Tensor]:
    """Whether a selection mixes routes."""
    return isinstance(selection, Tensor) and selection.ndim == 1 and selection.is_floating_point()


def is_condition(selection: Resolved) -> TypeGuard[Tensor]:
    """Whether a selection gives a vector for each sample."""
    return isinstance(selection, Tensor) and selection.ndim == 2


def is_whole_batch(selection: Resolved) -> bool:
    """Whether every sample of a batch goes the same way."""
    return not isinstance(selection, (tuple, Tensor)) or is_blend(selection)
