"""From a data specification, such as `cifar10:./data` or `npz:scans.npz`, to the parts of a set."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from robustsabn.config import number
from robustsabn.config.given import is_given, recall
from robustsabn.data.folder import read_folder
from robustsabn.data.npz import read_npz
from robustsabn.data.own import own_parts
from robustsabn.data.public import PUBLIC, read_digits, read_public
from robustsabn.data.sets import ImageSet
from robustsabn.errors import DataError
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote
from robustsabn.user_code import OwnCode

__all__ = ["SPECS", "Source", "count_classes", "own_source", "read"]

SPECS = (
    "digits",
    *(f"{name}[:ROOT]" for name in PUBLIC),
    "imagefolder:PATH[,size=N][,white=V]",
    "npz:PATH",
    "path/to/file.py:FUNCTION",
)


@dataclass(frozen=True)
class Source:
    """A data set: parts ("all", or some of "train", "validation", "test"), class names if any, and notes."""

    parts: dict[str, ImageSet]
    names: tuple[str, ...] | None
    notes: list[str]


def read(spec: str, download: bool = False) -> Source:
    """The set that `spec`, one of `SPECS`, names; DataError if it cannot be read or has another layout."""
    if not isinstance(spec, str):
        raise DataError(f"data is {quote(spec)}; give text, one of {', '.join(SPECS)}")
    if is_given(spec):
        given: Source = recall(spec, DataError)
        return given
    name, _, rest = spec.partition(":")
    parts: Mapping[str, ImageSet]
    names: tuple[str, ...] | None
    notes: list[str] = []
    if name == "digits" and not rest:
        parts, names = read_digits()
    elif name in PUBLIC:
        parts, names = read_public(name, given_path(rest or "data", "the data", DataError), download=download)
    elif name == "npz" and rest:
        parts, names, notes = read_npz(given_path(rest, "the data", DataError))
    elif name == "imagefolder" and rest:
        parts, names, notes = read_folder(*_folder_options(spec, rest))
    elif (code := OwnCode.split(spec)) is not None and ("." in code[0]):
        return _from_code(spec, *code)
    else:
        raise DataError(f"unknown data {quote(spec)}{_hint(name, spec)}; allowed: {', '.join(SPECS)}")
    return Source(dict(parts), names, notes)


def own_source(given: object, name: str) -> Source:
    """The set in an object of the user, called `name` in messages; see `own_parts`."""
    return given if isinstance(given, Source) else Source(*own_parts(given, name))


def _from_code(spec: str, file: str, name: str) -> Source:
    """The set that a function of the user's own file or module returns."""
    code = OwnCode(file, DataError, "data of your own is path/to/file.py:FUNCTION")
    with code.opened() as module:
        made = code.attribute(module, name)
        return own_source(code.run(made, spec) if callable(made) else made, spec)


def _folder_options(spec: str, rest: str) -> tuple[Path, int, float | None]:
    size, white = 224, None
    while match := re.fullmatch(r"(.+),(size|white)=([^,]*)", rest, re.DOTALL):
        rest, option, text = match.groups()
        if option == "size":
            if not re.fullmatch("[0-9]{1,9}", text):
                raise DataError(
                    f"{spec}: size must be a number of pixels, not {quote(text)}; for example ,size=64"
                )
            size = int(text)
        else:
            white = number(text)
            if white is None or not 0 < white < math.inf:
                raise DataError(
                    f"{spec}: white must be a number above 0, not {quote(text)}; for example ,white=65535"
                )
    return given_path(rest, "the data", DataError), size, None if white is None else float(white)


def _hint(name: str, spec: str) -> str:
    if spec.endswith(".py"):
        return f"; name its function: {spec}:FUNCTION"
    if spec.endswith(".npz"):
        return f" (did you mean npz:{spec}?)"
    if os.path.isdir(spec):
        return f" (did you mean imagefolder:{spec}?)"
    return nearest(name, ["digits", *PUBLIC, "imagefolder", "npz"])


def count_classes(spec: str, labels: Tensor) -> tuple[str, ...]:
    """The labels themselves as class names; DataError if they are not 0 … K-1."""
    present = sorted(set(labels.tolist()))
    missing = sorted(set(range(len(present))) - set(present))
    if missing:
        raise DataError(
            f"{spec}: labels must be 0 … K-1, but {missing[0]} is missing and the largest is {present[-1]}; "
            "renumber them, or name every class in the array classes"
        )
    return tuple(str(k) for k in present)
