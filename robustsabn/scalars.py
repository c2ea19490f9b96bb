"""Single numbers of any library: Python's, NumPy's, fractions, tensors without dimensions."""

import math
import operator
from numbers import Real
from typing import Any, SupportsIndex, cast

__all__ = ["LARGEST", "real", "whole"]

LARGEST = 2**63 - 1
"""The largest whole number that a tensor holds."""


def real(value: object) -> float | None:
    """`value` as a float; None for what is no single real number. Truth values are none."""
    if isinstance(value, Real):
        return None if isinstance(value, bool) else _float(value)
    scalar = cast(Any, value)
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return None
    try:
        return real(scalar.item())
    except RuntimeError:  # a tensor without values, on the device meta
        return None


def whole(value: object) -> int | None:
    """`value` as an int; None for what is no single whole number of 64 bits, 2.0 included. Truth values are none."""
    if isinstance(real(value), float) and hasattr(value, "__index__"):
        try:
            found = operator.index(cast(SupportsIndex, value))
        except TypeError:
            return None
        return found if abs(found) <= LARGEST else None
    return None


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if cast(Any, value) > 0 else -math.inf
