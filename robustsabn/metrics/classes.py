"""Numbers of each class: distance to its real images, spread within it, and labels by a classifier."""

import torch
from torch import Tensor

from robustsabn.errors import InputError
from robustsabn.metrics.extractor import Extractor
from robustsabn.metrics.features import Features
from robustsabn.metrics.quality import ByClass, Judged
from robustsabn.metrics.scores import Frechet

__all__ = ["by_class", "judged", "per_class"]

PAIRED = 2000
"""At most so many images of a class are taken for the distances within it."""


def per_class(labels: Tensor, classes: int, what: str) -> list[Tensor]:
    """The indices of each class; InputError for a class of fewer than two images, or a label out of range."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(
            f"{what} have labels from {int(labels.min())} to {int(labels.max())}, the real images have "
            f"classes 0 to {classes - 1}"
        )
    counts = labels.bincount(minlength=classes)
    if (few := (counts < 2).nonzero().flatten().tolist()) != []:
        raise InputError(
            f"{what}: class {few[0]} has {int(counts[few[0]])} images; give at least two of every class, 0 "
            f"to {classes - 1}, or name other metrics by `only`"
        )
    return [(labels == k).nonzero().flatten() for k in range(classes)]


def by_class(fake: Features, real: Features, what: str = "the images") -> tuple[ByClass, list[str]]:
    """Numbers of each class, and notes about numbers that need more images."""
    assert fake.labels is not None
    assert real.labels is not None
    classes = int(real.labels.max()) + 1
    ours, theirs = (
        per_class(fake.labels, classes, "the images"),
        per_class(real.labels, classes, "the real images"),
    )
    within = tuple(_spread(fake.features[rows]) for rows in ours)
    real_within = tuple(_spread(real.features[rows]) for rows in theirs)
    width = fake.features.shape[1]
    least = min(map(len, ours + theirs))
    if least <= width:
        note = (
            f"no distances by class: they need more than {width} images of each on both sides, one has "
            f"{least}"
        )
        return ByClass(within, real_within), [note]
    pairs = zip(ours, theirs, strict=True)
    distances = tuple(Frechet(real.features[there])(fake.features[here]) for here, there in pairs)
    return ByClass(within, real_within, distances), []


def judged(fake: Features, judge: Extractor) -> Judged:
    """Shares of the images to which `judge`, the extractor of `fake`, gives their label."""
    assert fake.labels is not None
    if fake.logits is None:
        raise InputError(f"the judge {judge.name} gives no logits; return a pair of features and logits")
    classes = fake.logits.shape[1]
    if not 0 <= int(fake.labels.min()) <= int(fake.labels.max()) < classes:
        raise InputError(
            f"labels go from {int(fake.labels.min())} to {int(fake.labels.max())}, the judge {judge.name} "
            f"knows classes 0 to {classes - 1}"
        )
    right = fake.logits.argmax(1) == fake.labels
    present = sorted(set(fake.labels.tolist()))
    shares = tuple(float(right[fake.labels == k].double().mean()) for k in present)
    return Judged(judge.name, judge.digest, float(right.double().mean()), shares)


def _spread(features: Tensor) -> float:
    """Mean distance between the features of two images."""
    step = -(-len(features) // PAIRED)
    return float(torch.pdist(features[::step].double()).mean())
