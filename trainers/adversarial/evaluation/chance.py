"""Detects accuracies that are no better than guessing."""

from math import sqrt

__all__ = ["chance_note"]


def chance_note(right: int, n: int, classes: int, through: str = "") -> str | None:
    """A warning if `right` of `n` images is within two standard deviations of guessing.

    None if it is clearly better than guessing among `classes`.
    """
    guess = 1 / max(classes, 2)
    if right == n or right > n * guess + 2 * sqrt(n * guess * (1 - guess)):
        return None
    return (
        f"clean accuracy{through} is {100 * right / n:.1f} % on {n} images, not clearly better than guessing "
        f"among {classes} classes: are the weights, the order of the classes and the scaling of the images "
        "those of training?"
    )
