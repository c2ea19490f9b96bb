"""Own images from a folder of class folders, decoded when a batch asks for them."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustsabn.data.sets import Device, check_fit, permutation
from robustsabn.errors import DataError
from robustsabn.text import quote

__all__ = ["FolderSet", "read_folder"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


@dataclass(frozen=True, eq=False)
class FolderSet:
    """Images in files: RGB, shorter side resized to `size` pixels, centre square; an `ImageSet`.

    `batch` raises DataError that names the file that cannot be decoded.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    size: int
    ids: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        paths = [self.paths[i] for i in indices.tolist()]
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            pixels = list(pool.map(partial(decode, size=self.size), paths))
        images = torch.stack(pixels) if pixels else torch.empty((0, *self.shape), dtype=torch.uint8)
        return images.to(device).float().div_(255), self.labels[indices.cpu()].to(device)

    def take(self, indices: Tensor) -> "FolderSet":
        indices = indices.cpu()
        paths = tuple(self.paths[i] for i in indices.tolist())
        return FolderSet(paths, self.labels[indices], self.size, self.ids[indices])

    def sample(self, n: int | None, seed: int = 0) -> "FolderSet":
        return self if n is None else self.take(permutation(len(self), seed)[: check_fit(n, len(self))])

    def to(self, device: Device) -> "FolderSet":
        return self


def decode(path: Path, size: int) -> Tensor:
    """One image file as (3, size, size) uint8."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); repair or remove it") from error
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_folder(path: Path, size: int) -> tuple[dict[str, FolderSet], tuple[str, ...]]:
    """The parts of a folder, any of "train", "validation" and "test" or else "all", and its class names.

    `path` has the subfolders `train`, `val` and `test` (any of them), or the class folders themselves. Classes
    are the names of the class folders, sorted; those of `train` where there is one.
    """
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder; imagefolder:PATH wants PATH/CLASS/*.png or PATH/train/CLASS/*.png"
        )
    if size < 1:
        raise DataError(f"the size of images must be at least 1 pixel, not {size}")
    folders = {"train": path / "train", "validation": path / "val", "test": path / "test"}
    roots = {part: root for part, root in folders.items() if root.is_dir()} or {"all": path}
    classes = _class_folders(next(iter(roots.values())))
    return {part: _read_part(root, classes, size) for part, root in roots.items()}, classes


def _class_folders(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not names:
        raise DataError(f"{root} has no class folders; put the images of class CLASS into {root}/CLASS/")
    return names


def _read_part(root: Path, classes: tuple[str, ...], size: int) -> FolderSet:
    paths: list[Path] = []
    labels: list[int] = []
    for name in _class_folders(root):
        if name not in classes:
            raise DataError(
                f"{root / name}: class {quote(name)} is not among those of train: {', '.join(classes)}"
            )
        files = sorted(p for p in (root / name).rglob("*") if _is_image(p))
        if not files:
            raise DataError(
                f"{root / name} holds no images ({' '.join(sorted(_SUFFIXES))}); remove the folder"
            )
        paths += files
        labels += [classes.index(name)] * len(files)
    return FolderSet(tuple(paths), torch.tensor(labels), size, torch.arange(len(paths)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
