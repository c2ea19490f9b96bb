"""Labels matched by class names, since two data sets may number the same class differently."""

from collections.abc import Sequence

import torch

from robustsabn.data.layout import shown
from robustsabn.data.sets import ImageSet
from robustsabn.errors import DataError

__all__ = ["by_name", "missing_classes"]


def by_name(
    images: ImageSet, names: Sequence[str] | None, known: Sequence[str], source: str, whose: str
) -> tuple[ImageSet, str | None]:
    """`images` of the set `source` with classes `names`, relabelled by `known`, the classes of `whose`; and a
    note.

    Labels without names stay as they are, which the note says. Raises DataError for images of an unknown
    class."""
    present = sorted(set(images.labels.tolist()))
    if names is None:
        if present[-1] >= len(known):
            raise DataError(
                f"{source} has the label {present[-1]}; {whose} knows 0 to {len(known) - 1}, "
                f"{shown(known, 10)}"
            )
        numbers = list(known) == [str(k) for k in range(len(known))]
        words = (
            f"{source} does not name its classes: its labels are used as those of {whose}, 0 for {known[0]!r}"
        )
        return images, None if numbers else words
    strange = [names[k] for k in present if names[k] not in known]
    if strange:
        raise DataError(
            f"{source} has images of {shown(map(repr, strange))}, which {whose} does not know; its classes "
            f"are {shown(known, 10)}: rename these classes, or remove their images"
        )
    places = torch.tensor([known.index(name) if name in known else -1 for name in names])
    if torch.equal(places, torch.arange(len(names))):
        return images, None
    return images.labelled(places[images.labels]), None


def missing_classes(images: ImageSet, classes: Sequence[str], part: str) -> list[str]:
    """A note if `images`, the `part` of a set, has no image of some classes."""
    present = set(images.labels.tolist())
    missing = [name for k, name in enumerate(classes) if k not in present]
    if not missing:
        return []
    return [f"{len(missing)} of {len(classes)} classes have no {part} image: {shown(missing)}"]
