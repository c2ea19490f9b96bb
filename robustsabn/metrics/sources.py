"""Images by name, for the command line: a folder of pictures, an .npz file, or a data set."""

import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustsabn.data import sources as data
from robustsabn.data.decoding import SUFFIXES
from robustsabn.data.folder import FolderSet, read_folder
from robustsabn.data.naming import by_name
from robustsabn.data.npz import read_npz
from robustsabn.data.sets import ArraySet, ImageSet, check_fit, permutation
from robustsabn.errors import DataError
from robustsabn.metrics.images import Images, is_set
from robustsabn.paths import given_path
from robustsabn.text import one_line, quote

__all__ = ["PARTS", "Source", "source"]

_SETS = {spec.partition("[")[0].partition(":")[0] for spec in data.SPECS}

PARTS = ("train", "validation", "test", "all")


@dataclass(frozen=True, eq=False)
class Source:
    """Images with their name and part, and labels if these are separate.

    `classes` names the labels, if known; `held_out` are images of another part of the same set.
    """

    images: Images
    labels: Tensor | None
    name: str
    split: str
    classes: tuple[str, ...] | None = None
    held_out: ImageSet | None = None
    notes: tuple[str, ...] = ()

    def numbered_as(self, real: "Source") -> "Source":
        """The same images with the labels of `real` for the classes; without labels if its classes differ."""
        if self.classes is None or real.classes is None or not is_set(self.images):
            return self
        images = cast(ImageSet, self.images)
        try:
            return replace(self, images=by_name(images, self.classes, real.classes, self.name, real.name)[0])
        except DataError as error:
            note = f"nothing is told by class: {error}"
            if isinstance(images, ArraySet):  # which takes no label of -1
                return replace(self, images=images.images, notes=(*self.notes, note))
            unknown = images.labelled(torch.full_like(images.labels, -1))
            return replace(self, images=unknown, notes=(*self.notes, note))

    def sample(self, n: int | None, seed: int = 0) -> "Source":
        """`n` images drawn by seed, or all for None; DataError if there are fewer."""
        if n is None:
            return self
        if is_set(self.images):
            return replace(self, images=cast(ImageSet, self.images).sample(n, seed))
        images = cast(Tensor, self.images)
        chosen = permutation(len(images), seed)[: check_fit(n, len(images))]
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, images=images[chosen], labels=labels)


def source(spec: str, part: str | None = None) -> Source:
    """The images that `spec` names: a folder of images or of class folders, an .npz file, or one of
    `data.SPECS`.

    part: that of a set with parts; training by default. An .npz file has `images` or `arr_0`, (N, H, W[, C])
    uint8 or floats in [0, 1], and optionally `labels`. Raises DataError for everything else, and for an empty
    folder."""
    if spec.partition(":")[0] in _SETS:
        return _part(data.read(spec), spec, part)
    place = given_path(spec, "the images", DataError)
    if place.is_dir():
        return _folder(place, spec, part)
    if spec.endswith(".npz"):
        return _npz(place, spec, part)
    raise DataError(
        f"{quote(spec)}: no such folder; give a folder of pictures, an .npz file, the run folder of a GAN, "
        f"or a data set: {', '.join(data.SPECS)}"
    )


def _part(found: data.Source, spec: str, part: str | None) -> Source:
    parts = found.parts
    chosen = part or next(name for name in ("all", "train", "validation", "test") if name in parts)
    if chosen not in parts:
        raise DataError(f"{spec} has no part {chosen}; it has {', '.join(parts)}")
    other = next((parts[name] for name in ("test", "validation") if name in parts), None)
    held_out = other if chosen == "train" else None
    return Source(parts[chosen], None, spec, chosen, found.names, held_out, tuple(found.notes))


def _folder(place: Path, spec: str, part: str | None) -> Source:
    try:
        with os.scandir(place) as entries:
            names = sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error}); check its permissions") from error
    flat = [place / name for name in names if Path(name).suffix.lower() in SUFFIXES]
    if flat:
        unknown = torch.full((len(flat),), -1)
        pictures = FolderSet(tuple(flat), unknown, _side(flat), torch.arange(len(flat)))
        return Source(pictures, None, spec, part or "all")
    below = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not below:
        raise DataError(f"{place} holds no images ({' '.join(sorted(SUFFIXES))}); name another folder")
    parts, classes, notes = read_folder(place, _side(below))
    return _part(data.Source(dict(parts), classes, notes), spec, part)


def _side(paths: list[Path]) -> int:
    """The shorter side of all images; DataError if it differs among the up to 1,000 that are tested."""
    seen: dict[int, Path] = {}
    for path in paths[:: len(paths) // 1000 + 1]:
        try:
            with Image.open(path) as file:
                seen.setdefault(min(file.size), path)
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise DataError(f"{path} cannot be decoded ({one_line(error)}); repair or remove it") from error
    if len(seen) > 1:
        (a, first), (b, second) = list(seen.items())[:2]
        raise DataError(
            f"{first} is {a} pixels on its shorter side, {second} is {b}; choose a size: "
            f"imagefolder:PATH,size={min(a, b)}"
        )
    return next(iter(seen))


def _npz(place: Path, spec: str, part: str | None) -> Source:
    if not place.is_file():
        raise DataError(
            f"{place}: no such file; an .npz file holds images (N, H, W[, C]), and labels if known"
        )
    if not zipfile.is_zipfile(place):
        raise DataError(f"{place} is not an .npz archive (or is truncated); write it with numpy.savez")
    try:
        with np.load(place, allow_pickle=False) as archive:
            key = next((name for name in ("images", "arr_0") if name in archive.files), None)
            array = None if key is None else archive[key]
            labels = archive["labels"] if key == "images" and "labels" in archive.files else None
    except Exception as error:  # zip files and headers of arrays fail in many ways
        raise DataError(f"{place} cannot be read ({one_line(error)}); write it with numpy.savez") from error
    if array is None or (array.dtype == np.uint8 and labels is not None):
        parts, names, notes = read_npz(place)
        return _part(data.Source(dict(parts), names, notes), spec, part)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)) or not array.size:
        raise DataError(f"{place}: {key} must have shape (N, H, W) or (N, H, W, 1 or 3), not {array.shape}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(f"{place}: {key} must be uint8, or floats in [0, 1], not {array.dtype}")
    images = torch.from_numpy(array)
    images = images.unsqueeze(1) if array.ndim == 3 else images.permute(0, 3, 1, 2)
    known = (
        None if labels is None or labels.dtype.kind not in "iu" else torch.from_numpy(labels.astype(np.int64))
    )
    return Source(images, known, spec, part or "all")
