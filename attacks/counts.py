"""Checks of counts, seeds and shares."""

from robustsabn.errors import InputError
from robustsabn.scalars import real, whole
from robustsabn.text import quote

__all__ = ["positive", "seed_of", "share_of"]


def positive(**counts: int) -> tuple[int, ...]:
    """The counts as ints; InputError unless each is a whole number of at least 1."""
    numbers = []
    for name, count in counts.items():
        number = whole(count)
        if number is None or number < 1:
            raise InputError(f"{name} is {quote(count)}; give a whole number of at least 1")
        numbers.append(number)
    return tuple(numbers)


def seed_of(seed: int, least: int | None = None) -> int:
    """The seed as an int; InputError unless it is a whole number, of at least `least`."""
    number = whole(seed)
    if number is None or (least is not None and number < least):
        start = "" if least is None else f" from {least}"
        raise InputError(f"seed is {quote(seed)}; give a whole number{start}: it is part of the result")
    return number


def share_of(name: str, value: float) -> float:
    """The share as a float; InputError unless it is above 0 and at most 1."""
    number = real(value)
    if number is None or not 0 < number <= 1:
        raise InputError(f"{name} is {quote(value)}; it must be above 0 and at most 1")
    return number
