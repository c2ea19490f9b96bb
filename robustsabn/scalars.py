"""Single numbers of any kind: Python's, NumPy's, fractions, tensors without dimensions."""

import math
import operator
from numbers import Real
from typing import Any, SupportsIndex, cast

__all__ = ["LARGEST", "real", "whole"]

LARGEST = 2**63 - 1
"""The largest whole number that a tensor can hold."""


def real(value: object) -> float | None:
    """`value` as a float; None if it is not a single real number. Booleans are not numbers."""
    if isinstance(value, Real):
        return None if isinstance(value, bool) else _float(value)
    scalar = cast(Any, value)
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return None
    try:
        return real(scalar.item())
    except RuntimeError:  # a tensor on the meta device has no value
        return None


def whole(value: object) -> int | None:
    """`value` as an int; None if it is not a single integer of 64 bits. 2.0 and booleans are not integers."""
    if isinstance(real(value), float) and hasattr(value, "__index__"):
        try:
            number = operator.index(cast(SupportsIndex, value))
        except TypeError:
            return None
        return number if abs(number) <= LARGEST else None
    return None


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if cast(Any, value) > 0 else -math.inf
