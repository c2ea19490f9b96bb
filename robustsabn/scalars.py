"""Single numbers of any library: Python's, NumPy's, fractions, tensors without dimensions."""

import operator
from numbers import Real
from typing import Any, SupportsIndex, cast

__all__ = ["real", "whole"]


def real(value: object) -> float | None:
    """`value` as a float; None for what is no single real number. Truth values are none."""
    if isinstance(value, Real):
        return None if isinstance(value, bool) else float(value)
    scalar = cast(Any, value)
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return None
    return real(scalar.item())


def whole(value: object) -> int | None:
    """`value` as an int; None for what is no single whole number, 2.0 included. Truth values are none."""
    if isinstance(real(value), float) and hasattr(value, "__index__"):
        try:
            return operator.index(cast(SupportsIndex, value))
        except TypeError:
            return None
    return None
