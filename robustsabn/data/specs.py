"""From a data spec, such as `cifar10:./data` or `npz:scans.npz`, to images."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from robustsabn.data.folder import read_folder
from robustsabn.data.npz import read_npz
from robustsabn.data.public import PUBLIC, read_digits, read_public
from robustsabn.data.sets import Data, ImageSet, hold_out
from robustsabn.errors import DataError
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote

__all__ = ["SPECS", "load", "load_test", "load_test_named"]

SPECS = ("digits", *(f"{name}[:ROOT]" for name in PUBLIC), "imagefolder:PATH[,size=N]", "npz:PATH")


def load(
    spec: str, *, validation: int = 1000, n: int | None = None, seed: int = 0, download: bool = False
) -> Data:
    """The data set that `spec` names, in training, validation and test parts.

    spec: one of `SPECS`; ROOT is ./data by default, `size` 224 pixels. What the parts are:
    digits, fixed, about 60/20/20, whatever the arguments; a set with a test part, `validation` images but
    at most a tenth held out of train by `seed`; a set without parts (an npz of images and labels, a folder of
    class folders), first a tenth for test by `seed`, then as before. An image folder's `val` validates
    where there is a `test` too, and tests where there is none.

    n: train on that many images, drawn by `seed`, all by default. download: fetch a published set that is missing.
    Raises DataError when the spec is unknown, files are missing or unreadable, or labels are not 0 … K-1.
    """
    parts, names = _read(spec, download)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    if "all" in parts:
        everything = parts.pop("all")
        classes = names or _count_classes(spec, everything.labels)
        if len(everything) < 10:
            raise DataError(
                f"{spec} has {len(everything)} images; a split into train, validation and test needs 10"
            )
        rest, test = hold_out(len(everything), len(everything) // 10, seed)
        parts |= {"train": everything.take(rest), "test": everything.take(test)}
    elif "train" in parts and "test" in parts:
        classes = names or _count_classes(spec, parts["train"].labels)
        if parts["test"].labels.max() >= len(classes):
            worst = int(parts["test"].labels.max())
            raise DataError(
                f"{spec}: test has the label {worst}, the labels of train end at {len(classes) - 1}"
            )
    else:
        raise DataError(f"{spec} has {' and '.join(parts)} only; training needs a train and a test part")
    train = parts["train"]
    if "validation" not in parts:
        kept, held = hold_out(len(train), validation, seed)
        train, parts["validation"] = train.take(kept), train.take(held)
    return Data(train.sample(n, seed), parts["validation"], parts["test"], classes, spec)


def load_extra(spec: str, like: Data, *, download: bool = False) -> ImageSet:
    """Further images to train on besides those of `like`: all of the training part of a set, or of a set without parts.

    Raises DataError as `load` does, and where the images have another size or the set another number of classes.
    """
    parts, names = _read(spec, download)
    images = parts.get("train", parts.get("all"))
    if images is None:
        raise DataError(f"{spec} has {' and '.join(parts)} only; there is no training part to take")
    if images.shape != like.train.shape:
        raise DataError(
            f"{spec} holds images (C, H, W) of {images.shape}, {like.name} of {like.train.shape}; resize them"
        )
    known = len(names or _count_classes(spec, images.labels))
    if known != len(like.classes):
        raise DataError(f"{spec} has {known} classes, {like.name} has {len(like.classes)}; they must agree")
    return images


def load_test(spec: str, n: int | None = None, seed: int = 0, *, download: bool = False) -> ImageSet:
    """The images to evaluate on: the test part of a set, or all of a set without parts.

    n: that many, drawn by `seed`, because sets may be sorted by class; all by default. Labels need not
    cover every class. See `load` for specs and errors.
    """
    return load_test_named(spec, n, seed, download=download)[0]


def load_test_named(
    spec: str, n: int | None = None, seed: int = 0, *, download: bool = False
) -> tuple[ImageSet, tuple[str, ...] | None]:
    """`load_test`, and the names of the classes, None where the set has none."""
    parts, names = _read(spec, download)
    for part in ("test", "validation", "all"):
        if part in parts:
            return parts[part].sample(n, seed), names
    raise DataError(f"{spec} has {' and '.join(parts)} only; there is no test part to evaluate on")


def _read(spec: str, download: bool) -> tuple[dict[str, ImageSet], tuple[str, ...] | None]:
    if not isinstance(spec, str):
        raise DataError(f"data is {quote(spec)}; give text, one of {', '.join(SPECS)}")
    name, _, rest = spec.partition(":")
    parts: Mapping[str, ImageSet]
    names: tuple[str, ...] | None
    if name == "digits" and not rest:
        parts, names = read_digits()
    elif name in PUBLIC:
        parts, names = read_public(name, given_path(rest or "data", "the data", DataError), download=download)
    elif name == "npz" and rest:
        parts, names = read_npz(given_path(rest, "the data", DataError))
    elif name == "imagefolder" and rest:
        path, size = _folder_options(spec, rest)
        parts, names = read_folder(path, size)
    else:
        raise DataError(f"unknown data {quote(spec)}{_hint(name, spec)}; allowed: {', '.join(SPECS)}")
    return dict(parts), names


def _folder_options(spec: str, rest: str) -> tuple[Path, int]:
    path, comma, option = rest.rpartition(",size=")
    if not comma:
        return given_path(rest, "the data", DataError), 224
    if not option.isdecimal():
        raise DataError(f"{spec}: size must be a number of pixels, not {quote(option)}; for example ,size=64")
    return given_path(path, "the data", DataError), int(option[:9])


def _hint(name: str, spec: str) -> str:
    if spec.endswith(".npz"):
        return f" (did you mean npz:{spec}?)"
    if os.path.isdir(spec):
        return f" (did you mean imagefolder:{spec}?)"
    return nearest(name, ["digits", *PUBLIC, "imagefolder", "npz"])


def _count_classes(spec: str, labels: Tensor) -> tuple[str, ...]:
    present = sorted(set(labels.tolist()))
    missing = sorted(set(range(len(present))) - set(present))
    if missing:
        raise DataError(
            f"{spec}: labels must be 0 … K-1, but {missing[0]} is missing and the largest is {present[-1]}; "
            "renumber them, or name every class in the array classes"
        )
    return tuple(str(k) for k in present)
