"""From a data spec to the images that are trained on, evaluated, or added."""

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
    """A set that a network was trained on: its spec, its classes, and its digest where that is known."""

    spec: str
    classes: tuple[str, ...]
    digest: str | None = None


@dataclass(frozen=True)
class Tested:
    """Images to evaluate on, what their labels are called, if anything, and lines on what may be a mistake."""

    images: ImageSet
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def load(
    spec: str, *, validation: int = 1000, n: int | None = None, seed: int = 0, download: bool = False
) -> Data:
    """The data set that `spec` names, in training, validation and test parts.

    spec: one of `SPECS`; ROOT is ./data by default, `size` 224 pixels. What the parts are:
    digits, fixed, about 60/20/20, whatever the arguments; a set with a test part, `validation` images but
    at most a tenth held out of train by `seed`; a set without parts (an npz of images and labels, a folder of
    class folders), first a tenth for test by `seed`, then as before, and no class loses its last image to either.
    A set's `val` validates where there is a `test` too, and tests where there is none.

    n: train on that many images, drawn by `seed`, all by default. download: fetch a published set that is missing.
    Raises DataError when the spec is unknown, files are missing or unreadable, or labels are not 0 … K-1.
    """
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
                    f"{spec}: {part} has the label {worst}, the labels of train end at {len(classes) - 1}"
                )
    else:
        raise DataError(
            f"{spec} has {' and '.join(source.parts)} only; training needs a train and a test part"
        )
    if len(classes) < 2:
        raise DataError(
            f"{spec} has one class only, {', '.join(map(repr, classes))}; training tells two or more apart: is it a level off?"
        )
    train = parts["train"]
    if "validation" not in parts:
        kept, out = split(train.labels, validation, seed)
        train, parts["validation"] = train.take(kept), train.take(out)
    train = train.sample(n, seed)
    notes = (*source.notes, *missing_classes(train, classes, "training"))
    notes += tuple(missing_classes(parts["test"], classes, "test"))
    return Data(train, parts["validation"], parts["test"], classes, spec, held, notes)


def load_extra(spec: str, like: Data, *, download: bool = False, notes: list[str] | None = None) -> ImageSet:
    """Further images to train on besides those of `like`: all of the training part of a set, or of a set without parts.

    Labels go by the names of classes, where the set has them. Raises DataError as `load` does, and where the images have
    another size, or classes that `like` does not have; without names as many are asked for. What there is to say of the
    set is added to `notes`.
    """
    source = read(spec, download)
    parts, names = source.parts, source.names
    images = parts.get("train", parts.get("all"))
    if images is None:
        raise DataError(f"{spec} has {' and '.join(parts)} only; there is no training part to take")
    if images.shape != like.train.shape:
        raise DataError(
            f"{spec} holds images (C, H, W) of {images.shape}, {like.name} of {like.train.shape}; resize them"
        )
    if names is None:
        known = len(count_classes(spec, images.labels))
        if known != len(like.classes):
            raise DataError(
                f"{spec} has {known} classes, {like.name} has {len(like.classes)}; they must agree"
            )
    renamed, note = by_name(images, names, like.classes, spec, like.name)
    if notes is not None:
        notes += [*source.notes, *([note] if note else [])]
    return renamed


def load_test(spec: str, n: int | None = None, seed: int = 0, *, download: bool = False) -> ImageSet:
    """The images to evaluate on: the test part of a set, else its validation part, or all of a set without parts.

    n: that many, drawn by `seed`, because sets may be sorted by class; all by default. Labels need not
    cover every class. See `load` for specs and errors.
    """
    return read_test(spec, n, seed, download=download).images


def read_test(
    spec: str, n: int | None = None, seed: int = 0, *, download: bool = False, seen: Seen | None = None
) -> Tested:
    """`load_test`, with names and notes.

    `seen` is the set that the network was trained on: its labels are taken, by the names of classes, and of that very set,
    where it has no parts, the tenth that `load` holds out for test. Raises DataError for classes that it does not have.
    """
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
        raise DataError(f"{spec} has {' and '.join(source.parts)} only; there is no test part to evaluate on")
    everything = source.parts["all"]
    whole = f"{spec} has no test part: all of its {len(everything)} images are evaluated"
    if seen is None:
        return everything, [f"{whole}, those too that the model may have been trained on"]
    known = seen.digest and seen.digest == digest(source.parts, source.names)
    if not known and spec != seen.spec:
        return everything, [f"{whole}; it is not the set that the run was trained on"]
    changed = f"{spec} has changed since the run was trained: training may have seen some of these images"
    return _apart(spec, everything, 0)["test"], [changed] if seen.digest and not known else []


def _apart(spec: str, everything: ImageSet, seed: int) -> dict[str, ImageSet]:
    """A set without parts in two: a tenth for test, the rest to train on."""
    n = len(everything)
    if n < 10:
        raise DataError(f"{spec} has {n} images; a split into train, validation and test needs 10")
    rest, test = split(everything.labels, n // 10, seed)
    return {"train": everything.take(rest), "test": everything.take(test)}
