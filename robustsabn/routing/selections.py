"""The forms of a selection, with the checks that need no model."""

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
    "same",
]


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy, and not a boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _number(value: SupportsFloat) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


class Split:
    """A selection of consecutive parts of one batch, each with its own route: `Split(clean=64, adv=64)`.

    Sizes are numbers of samples and sum to the batch; a part may be empty. Routes may also be given by
    number, as pairs. Raises RouteError for other arguments.

    Example:

        >>> from robustsabn import Split
        >>> Split(clean=64, adv=64), Split((0, 64), (1, 64))
        (Split(clean=64, adv=64), Split(0=64, 1=64))
    """

    def __init__(self, *parts: tuple[str | SupportsIndex, SupportsIndex], **named: SupportsIndex) -> None:
        for part in parts:
            if not isinstance(part, (tuple, list)) or len(part) != 2:
                raise RouteError(
                    f"Split({quote(part)}): give a part as a pair (route, size), or by name: Split(clean=64)"
                )
        pairs = (*parts, *named.items())
        if not pairs:
            raise RouteError("Split() has no parts; write for example Split(clean=64, adv=64)")
        for name, size in pairs:
            if not is_integer(size) or size < 0:
                raise RouteError(
                    f"Split({shorten(name)}={quote(size)}): give a size as a number of samples, an int of "
                    "at least 0"
                )
        self.parts: tuple[tuple[str | SupportsIndex, int], ...] = tuple(
            (name, int(size)) for name, size in pairs
        )

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{name}={size}' for name, size in self.parts)})"


class Blend:
    """A selection that mixes effective affines and statistics: `Blend(clean=0.3, adv=0.7)` or
    `Blend(weights)`.

    `weights` is a float tensor (R,), one per route, and may require grad, as the mixture weights of a search
    do. Named weights are at least 0 and sum to 1; routes that are not named have weight 0. Raises RouteError
    for other arguments.

    Example:

        >>> import torch
        >>> from robustsabn import Blend, convert, route
        >>> model = convert(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), routes=("clean", "adv")).eval()
        >>> with route(model, Blend(clean=0.3, adv=0.7)):
        ...     y = model(torch.rand(2, 3, 4, 4))
    """

    def __init__(self, weights: Tensor | None = None, **named: SupportsFloat) -> None:
        if (weights is None) == (not named):
            raise RouteError(
                "Blend takes either one tensor of weights or named weights: Blend(clean=.3, adv=.7)"
            )
        numbers = all(isinstance(w, Real) and not isinstance(w, bool) for w in named.values())
        if not numbers or not isinstance(weights, (Tensor, NoneType)):
            shown = quote(named if weights is None else weights)
            raise RouteError(
                f"Blend({shown}): give numbers, Blend(clean=.3, adv=.7), or one float tensor (R,)"
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
    """A selection by one vector per sample, for layers built with `condition=D`: `Condition(y)`.

    y is a float tensor (N, D) and may require grad; the affines are linear maps of it. In BigGAN (arXiv
    1809.11096) it is an embedding of the class together with a part of the latent. Raises RouteError for
    anything else.

    Example:

        >>> import torch
        >>> from robustsabn import CCBN2d, Condition, route
        >>> layer = CCBN2d(8, condition=16)
        >>> with route(layer, Condition(torch.randn(4, 16))):
        ...     y = layer(torch.rand(4, 8, 2, 2))
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
"""The form that layers read: route index | LongTensor (N,) | float Tensor (R,) of a Blend |
float Tensor (N, D) of a Condition | ((route, size), ...) of a Split | None."""


def is_blend(selection: Resolved) -> TypeGuard[Tensor]:
    """Whether a selection mixes routes."""
    return isinstance(selection, Tensor) and selection.ndim == 1 and selection.is_floating_point()


def is_condition(selection: Resolved) -> TypeGuard[Tensor]:
    """Whether a selection gives a vector for each sample."""
    return isinstance(selection, Tensor) and selection.ndim == 2


def is_whole_batch(selection: Resolved) -> bool:
    """Whether all samples of a batch have the same route."""
    return not isinstance(selection, (tuple, Tensor)) or is_blend(selection)


def same(a: Resolved, b: Resolved) -> bool:
    """Whether two selections are known to be equal, without reading the values of tensors."""
    return a is b or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b)
