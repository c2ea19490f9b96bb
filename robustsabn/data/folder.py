"""Images from a folder of class folders, decoded when a batch needs them."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from robustsabn.data.decoding import SUFFIXES, decode
from robustsabn.data.layout import class_folders, image_files, part_folders, shown
from robustsabn.data.sets import Device, check_fit, permutation
from robustsabn.errors import DataError
from robustsabn.text import quote

__all__ = ["FolderSet", "read_folder"]


@dataclass(frozen=True, eq=False)
class FolderSet:
    """An `ImageSet` of files: RGB, shorter side resized to `size` pixels, then the central square.

    `white` is the value of white in greyscale images of more than 8 bits. `batch` raises DataError as
    `decode` does."""

    paths: tuple[Path, ...]
    labels: Tensor
    size: int
    ids: Tensor
    white: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        paths = [self.paths[i] for i in indices.tolist()]
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            pixels = list(pool.map(partial(decode, size=self.size, white=self.white), paths))
        images = torch.stack(pixels) if pixels else torch.empty((0, *self.shape), dtype=torch.uint8)
        return images.to(device).float().div_(255), self.labels[indices.cpu()].to(device)

    def take(self, indices: Tensor) -> "FolderSet":
        indices = indices.cpu()
        paths = tuple(self.paths[i] for i in indices.tolist())
        return replace(self, paths=paths, labels=self.labels[indices], ids=self.ids[indices])

    def labelled(self, labels: Tensor) -> "FolderSet":
        return replace(self, labels=labels)

    def sample(self, n: int | None, seed: int = 0) -> "FolderSet":
        return self if n is None else self.take(permutation(len(self), seed)[: check_fit(n, len(self))])

    def to(self, device: Device) -> "FolderSet":
        return self


def read_folder(
    path: Path, size: int, white: float | None = None
) -> tuple[dict[str, FolderSet], tuple[str, ...], list[str]]:
    """The parts of a folder ("train", "validation", "test", or else "all"), its class names, and notes.

    `path` has some of the subfolders `train`, `val` and `test`, or the class folders themselves. Classes are
    the sorted names of the class folders, of `train` if there is one. Notes are lines about files that are
    not used. Raises DataError for other layouts, and if one of ten images that are tried in each part cannot
    be decoded."""
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder; imagefolder:PATH needs PATH/CLASS/*.png or PATH/train/CLASS/*.png"
        )
    if size < 1:
        raise DataError(f"the size of images must be at least 1 pixel, not {size}")
    try:
        roots, notes = part_folders(path)
        classes = class_folders(next(iter(roots.values())))
        parts = {part: _read_part(root, classes, size, white, notes) for part, root in roots.items()}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); check its permissions") from error
    return parts, classes, notes


def _read_part(
    root: Path, classes: tuple[str, ...], size: int, white: float | None, notes: list[str]
) -> FolderSet:
    paths: list[Path] = []
    labels: list[int] = []
    other = 0
    for name in class_folders(root):
        if name not in classes:
            raise DataError(
                f"{root / name}: class {quote(name)} is not a class of train: {', '.join(classes)}; rename "
                "or remove it"
            )
        files, beside = image_files(root, name)
        paths += files
        labels += [classes.index(name)] * len(files)
        other += beside
    for path in paths[:: len(paths) // 10 + 1]:  # report now what all images lack
        decode(path, size, white)
    loose = sorted(
        p.name for p in root.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and p.name[0] != "."
    )
    if loose:
        notes.append(
            f"{root} has {len(loose)} images outside of class folders, which are not used: {shown(loose, 3)}"
        )
    if other:
        notes.append(f"{root}: {other} files in its class folders are not images and are not used")
    return FolderSet(tuple(paths), torch.tensor(labels), size, torch.arange(len(paths)), white)
