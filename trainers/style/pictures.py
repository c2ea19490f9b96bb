"""The pictures of a run: content and style, for training and held out."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.data import ArraySet, ImageSet
from robustsabn.data.content import digest, sha256
from robustsabn.data.decoding import SUFFIXES, decode
from robustsabn.data.folder import FolderSet
from robustsabn.data.sets import permutation
from robustsabn.errors import DataError
from robustsabn.paths import given_path
from robustsabn.text import quote, shorten
from robustsabn.trainers.style.textures import KINDS, texture

__all__ = ["Pictures", "Place", "centre", "crops", "draw_places", "read_content", "read_styles"]

PHOTO, TEXTURE = 427, 192
"""Sides of the embedded photos and textures."""

Place = tuple[int, int, int, bool]
"""Of a crop: side, top, left, and whether it is mirrored."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Square pictures with their names; their label is their number. `held_out` may be those of training."""

    train: ImageSet
    held_out: ImageSet
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A hash of names and content."""
        return digest(self._parts, self.names)

    @property
    def sha256(self) -> str:
        """SHA-256 of names and content."""
        return sha256(self._parts, self.names)

    @property
    def _parts(self) -> dict[str, ImageSet]:
        return {"train": self.train, "validation": self.held_out}

    def at_least(self, n: int) -> ImageSet:
        """The pictures for training, repeated until there are n."""
        own = len(self.train)
        return self.train if own >= n else self.train.take(torch.arange(-(-n // own) * own) % own)


def read_content(spec: str, size: int, n: int | None = None) -> Pictures:
    """The content pictures that `spec` names: `embedded`, or a folder; `n` of them for training.

    Embedded are two photos of scikit-learn, in three overlapping squares each, and one of matplotlib, which
    is held out.
    """
    if spec == "embedded":
        return _photos()
    found = _folder(spec, size, "data")
    return found if n is None else Pictures(found.train.sample(n), found.held_out, found.names, found.notes)


def read_styles(spec: str, size: int, routes: bool) -> Pictures:
    """The style pictures that `spec` names: `embedded`, `embedded:N`, a folder, or one file.

    With `routes` all of them are for training, and for validation too.
    """
    match = re.fullmatch(r"embedded(?::(\d{1,4}))?", spec)
    if match is None:
        return _folder(spec, size, "styles", routes)
    count = int(match[1] or 60)
    if count < 1:
        raise DataError("styles: embedded:0 has no textures; give embedded, or embedded:N with N from 1")
    drawn = _textures(0, count)
    names = tuple(f"{list(KINDS)[k % len(KINDS)]}-{k // len(KINDS) + 1}" for k in range(count))
    return Pictures(drawn, drawn if routes else _textures(10_000, len(KINDS)), names)


def _photos() -> Pictures:
    import matplotlib.cbook
    from sklearn.datasets import load_sample_images  # type: ignore[import-untyped, unused-ignore]

    squares = []
    for photo in load_sample_images().images:
        whole = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        room = whole.shape[2] - PHOTO
        squares += [whole[:, :PHOTO, left : left + PHOTO] for left in (0, room // 2, room)]
    held = decode(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)), PHOTO)
    names = tuple(f"{photo}-{part}" for photo in ("china", "flower") for part in ("left", "centre", "right"))
    return Pictures(_array(squares), _array([held]), names)


def _textures(seed: int, count: int) -> ArraySet:
    kinds = list(KINDS)
    return _array([texture(seed + k, kinds[k % len(kinds)], TEXTURE) for k in range(count)])


def _array(images: Sequence[Tensor]) -> ArraySet:
    return ArraySet(torch.stack(list(images)), torch.arange(len(images)))


def _folder(spec: str, size: int, key: str, routes: bool = False) -> Pictures:
    place = given_path(spec, key, DataError)
    parts = [place / name for name in ("train", "val")]
    apart = all(part.is_dir() for part in parts) and not routes
    train = _files(parts[0] if apart else place, key)
    held = _files(parts[1], key) if apart else []
    notes = []
    if routes:
        held = train
    elif not apart and len(train) < 2:
        held, notes = train, [f"{key}: {spec} has one picture, which is used for validation too"]
    elif not apart:
        order, out = permutation(len(train), 0).tolist(), max(1, len(train) // 10)
        held, train = ([train[k] for k in sorted(part)] for part in (order[:out], order[out:]))
    for path in train[:: len(train) // 10 + 1]:
        decode(path, size)
    names = tuple(path.stem for path in train)
    if routes and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{key}: two pictures are called {shorten(twice)}; routes need different names")
    learnt = _set(train, size)
    return Pictures(learnt, learnt if held is train else _set(held, size), names, tuple(notes))


def _set(paths: Sequence[Path], size: int) -> FolderSet:
    numbers = torch.arange(len(paths))
    return FolderSet(tuple(paths), numbers, size, numbers)


def _files(place: Path, key: str) -> list[Path]:
    """The pictures in a folder and below it, sorted, or one file."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{key}: no such folder: {quote(str(place))}; give a folder of pictures, or embedded")
    found = list[Path]()
    for folder, below, names in os.walk(place):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    found = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(
            f"{key}: {place} holds no pictures ({' '.join(sorted(SUFFIXES))}); name another folder"
        )
    return found


def draw_places(n: int, size: int, crop: int, largest: int, source: torch.Generator) -> list[Place]:
    """Random places of n crops in pictures of `size` pixels; sides are from `crop` to `largest`."""
    most = min(size, largest)
    if crop > most:
        raise DataError(f"crop={crop} is larger than the pictures, which have {size} pixels; lower it")
    draws = torch.rand(n, 4, generator=source, dtype=torch.float64).tolist()
    places = []
    for first, second, third, last in draws:
        side = crop + int(first * (most - crop + 1))
        room = size - side + 1
        places.append((side, int(second * room), int(third * room), last < 0.5))
    return places


def crops(x: Tensor, places: Sequence[Place], crop: int) -> Tensor:
    """The crops of pictures (N, 3, H, W) at `places`, resized to (N, 3, crop, crop)."""
    parts = []
    for picture, (side, top, left, mirrored) in zip(x, places, strict=True):
        part = picture[:, top : top + side, left : left + side]
        parts.append(resized(part[None], crop)[0].flip(2) if mirrored else resized(part[None], crop)[0])
    return torch.stack(parts)


def centre(x: Tensor, crop: int, largest: int) -> Tensor:
    """The central square of `largest` pixels of pictures (N, 3, H, H), resized to `crop` pixels."""
    side = min(largest, x.shape[-1])
    start = (x.shape[-1] - side) // 2
    return resized(x[..., start : start + side, start : start + side], crop)


def resized(x: Tensor, size: int) -> Tensor:
    """Square pictures (N, 3, H, H) resized to `size` pixels."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
