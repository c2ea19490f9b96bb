"""Checks and describes the labels of a training set for class-conditional GANs."""

from torch import Tensor

from robustsabn.data import Data
from robustsabn.errors import DataError
from robustsabn.text import shorten

__all__ = ["describe_labels", "present_classes"]

MOST_SHOWN = 20


def present_classes(data: Data) -> Tensor:
    """The classes (K,) that have training images, in order."""
    return data.train.labels.bincount().nonzero().flatten()


def describe_labels(data: Data) -> str:
    """The number of training images per class, in one line. Raises DataError if all labels are equal."""
    counts = data.train.labels.bincount(minlength=len(data.classes)).tolist()
    present = [k for k, n in enumerate(counts) if n]
    if len(present) < 2:
        name = data.classes[present[0]]
        raise DataError(
            f"{data.name}: all {len(data.train)} training labels are {present[0]} ({shorten(name)}); "
            "a class-conditional GAN needs at least two classes; is the folder a level too high?"
        )
    if len(counts) <= MOST_SHOWN:
        return "labels: " + ", ".join(
            f"{shorten(c, 20)} {n}" for c, n in zip(data.classes, counts, strict=True)
        )
    return f"labels: {len(counts)} classes of {min(counts)} to {max(counts)} images"
