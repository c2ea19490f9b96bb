"""Images for training and tests, by data specification."""

from dataclasses import dataclass

from robustsabn.arguments import a_whole_number
from robustsabn.data.content import digest
from robustsabn.data.naming import by_name, missing_classes
from robustsabn.data.sets import Data, ImageSet
from robustsabn.data.sources import SPECS, Source, count_classes, read
from robustsabn.data.splits import split
from robustsabn.errors import DataError
from robustsabn.scalars import LARGEST

__all__ = ["SPECS", "Seen", "Tested", "load", "load_extra", "load_test", "read_test"]


@dataclass(frozen=True)
class Seen:
    """A set that a network was trained on: its specification, classes, and digest if known."""

    spec: str
    classes: tuple[str, ...]
    digest: str | None = None


@dataclass(frozen=True)
class Tested:
    """Images for an evaluation, their class names if any, and lines about possible mistakes."""

    images: ImageSet
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def load(
    spec: str, *, validation: int = 1000, n: int | None = None, seed: int = 0, download: bool = False
) -> Data:
    """The data set that `spec` names, in training, validation and test parts.

    - spec: one of `SPECS`; ROOT is ./data by default, `size` is 224 pixels.
    - validation: images held out of the training part, by `seed`; at most a tenth of it.
    - n: number of training images, drawn by `seed`; all by default.
    - download: download a public set that is missing.

    digits has fixed parts of about 60, 20 and 20 %. Of a set without parts (an npz of images and labels, a
    folder of class folders) first a tenth is held out for tests, by `seed`; every class keeps at least one
    training image. The part `val` of a set is for validation if there is also a `test`, otherwise for tests.
    Raises DataError if the specification is unknown, files are missing or unreadable, or labels are not 0 …
    K-1."""
    a_whole_number("validation", validation, DataError, 0)
    a_whole_number("seed", seed, DataError, 0, LARGEST)
    source = read(spec, download)
    parts, held = dict(source.parts), digest(source.parts, source.names)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    if "all" in parts:
        everything = parts.pop("all")
        classes = source.names or count_classes(spec, everything.labels)
        parts |= _apart(spec, everything, seed)
    elif "train" in parts and "test" in parts:
        classes = source.names or count_classes(spec, parts["train"].labels)
        for part in set(parts) - {"train"}:
            if (worst := int(parts[part].labels.max())) >= len(classes):
                raise DataError(
                    f"{spec}: {part} has the label {worst}, but the labels of train end at "
                    f"{len(classes) - 1}; number the classes alike"
                )
    else:
        raise DataError(
            f"{spec} has only {' and '.join(source.parts)}; training needs a train and a test part"
        )
    if len(classes) < 2:
        raise DataError(
            f"{spec} has only one class, {', '.join(map(repr, classes))}; training needs two or more: is "
            "the folder a level too high or too low?"
        )
    train = parts["train"]
    if "validation" not in parts:
        kept, out = split(train.labels, validation, seed)
        train, parts["validation"] = train.take(kept), train.take(out)
    train = train.sample(n, seed)
    notes = (*source.notes, *missing_classes(train, classes, "training"))
    notes += tuple(missing_classes(parts["test"], classes, "test"))
    return Data(
        train=train,
        validation=parts["validation"],
        test=parts["test"],
        classes=classes,
        name=spec,
        digest=held,
        notes=notes,
    )


def load_extra(spec: str, like: Data, *, download: bool = False, notes: list[str] | None = None) -> ImageSet:
    """Extra training images for the set `like`: the whole training part of a set, or a whole set without
    parts.

    Labels are matched by class names if the set has them. Lines about possible mistakes are added to `notes`.
    Raises DataError as `load` does, and for images of another size, for classes that `like` does not have,
    and, without names, for another number of classes."""
    source = read(spec, download)
    parts, names = source.parts, source.names
    images = parts.get("train", parts.get("all"))
    if images is None:
        raise DataError(f"{spec} has only {' and '.join(parts)}; give a set with a training part")
    if images.shape != like.train.shape:
        raise DataError(
            f"{spec} has images (C, H, W) of {images.shape}, but {like.name} of {like.train.shape}; resize "
            "them"
        )
    if names is None:
        known = len(count_classes(spec, images.labels))
        if known != len(like.classes):
            raise DataError(
                f"{spec} has {known} classes, but {like.name} has {len(like.classes)}; the numbers must agree"
            )
    renamed, note = by_name(images, names, like.classes, spec, like.name)
    if notes is not None:
        notes += [*source.notes, *([note] if note else [])]
    return renamed


def load_test(spec: str, n: int | None = None, seed: int = 0, *, download: bool = False) -> ImageSet:
    """The images for an evaluation: the test part of a set, else its validation part, or a whole set without
    parts.

    n: number of images, drawn by `seed`, since sets may be sorted by class; all by default. Some classes may
    have no image. For specifications and errors see `load`."""
    return read_test(spec, n, seed, download=download).images


def read_test(
    spec: str, n: int | None = None, seed: int = 0, *, download: bool = False, seen: Seen | None = None
) -> Tested:
    """As `load_test`, with class names and notes.

    `seen` is the set that the network was trained on: labels are matched to it by class names. If it is the
    same set and has no parts, only the tenth that `load` holds out for tests is used. Raises DataError for
    classes that it does not have."""
    source = read(spec, download)
    images, notes = _test_part(spec, source, seen)
    names = source.names
    if seen is not None:
        images, note = by_name(images, names, seen.classes, spec, f"the run trained on {seen.spec}")
        names, notes = seen.classes, [*notes, *([note] if note else [])]
    return Tested(images.sample(n, seed), names, (*source.notes, *notes))


def _test_part(spec: str, source: Source, seen: Seen | None) -> tuple[ImageSet, list[str]]:
    for part in ("test", "validation"):
        if part in source.parts:
            return source.parts[part], []
    if "all" not in source.parts:
        raise DataError(f"{spec} has only {' and '.join(source.parts)}; give a set with a test part")
    everything = source.parts["all"]
    whole = f"{spec} has no test part: all of its {len(everything)} images are used"
    if seen is None:
        return everything, [f"{whole}, also those that the model may have been trained on"]
    known = seen.digest and seen.digest == digest(source.parts, source.names)
    if not known and spec != seen.spec:
        return everything, [f"{whole}; it is not the set that the run was trained on"]
    changed = f"{spec} has changed since the training, which may have used some of these images"
    return _apart(spec, everything, 0)["test"], [changed] if seen.digest and not known else []


def _apart(spec: str, everything: ImageSet, seed: int) -> dict[str, ImageSet]:
    """A set without parts in two: a tenth for tests, the rest for training."""
    n = len(everything)
    if n < 10:
        raise DataError(f"{spec} has {n} images; a split into train, validation and test needs 10")
    rest, test = split(everything.labels, n // 10, seed)
    return {"train": everything.take(rest), "test": everything.take(test)}
