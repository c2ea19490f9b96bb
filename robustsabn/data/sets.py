"""Sets of labelled images, and the three parts that a training run needs."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from robustsabn.arguments import a_tensor
from robustsabn.errors import DataError
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["ArraySet", "Data", "ImageSet", "check_fit", "permutation"]

Device = torch.device | str


class ImageSet(Protocol):
    """Labelled images of one size, read in batches.

    `labels` (N,) int64; `shape` (C, H, W); `ids` (N,) int64: the place of each image in the whole set, which
    `take` and `sample` keep."""

    @property
    def labels(self) -> Tensor: ...
    @property
    def ids(self) -> Tensor: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) float32 in [0, 1] and labels (n,) at `indices` (n,) int64, on `device`."""
        ...

    def take(self, indices: Tensor) -> "ImageSet":
        """The set of the images at `indices` (n,) int64, in that order."""
        ...

    def labelled(self, labels: Tensor) -> "ImageSet":
        """The same images with other labels (N,) int64."""
        ...

    def sample(self, n: int | None, seed: int = 0) -> "ImageSet":
        """`n` images drawn by seed; a smaller n gives the first of a larger n. None gives all, in order."""
        ...

    def to(self, device: Device) -> "ImageSet":
        """The set with its pixels on `device`, if they are in memory."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySet:
    """An `ImageSet` in memory: `images` (N, C, H, W) uint8 and `labels` (N,) int64.

    `ids` is 0 … N-1 by default. Raises DataError for tensors of another type or shape.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        a_tensor("images", self.images, DataError)
        a_tensor("labels", self.labels, DataError)
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            got = f"{tuple(self.images.shape)} {self.images.dtype}"
            raise DataError(f"images must be uint8 of shape (N, C, H, W), not {got}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            got = f"{tuple(self.labels.shape)} {self.labels.dtype}"
            raise DataError(f"labels must be int64 of shape ({len(self.images)},), not {got}")
        if self.labels.device.type == "cpu" and len(self.labels) and self.labels.min() < 0:
            raise DataError(f"the smallest label is {int(self.labels.min())}; labels count from 0")
        if self.ids is None:
            object.__setattr__(self, "ids", torch.arange(len(self.labels)))

    @property
    def shape(self) -> tuple[int, int, int]:
        _, c, h, w = self.images.shape
        return c, h, w

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        indices = indices.to(self.images.device, non_blocking=True)  # or each step would wait for the last
        # copy bytes to the device, and convert to float there
        images = self.images[indices].to(device, non_blocking=True)
        return images.float().div_(255), self.labels[indices].to(device, non_blocking=True)

    def take(self, indices: Tensor) -> "ArraySet":
        places = indices.to(self.images.device)
        return ArraySet(self.images[places], self.labels[places], self.ids[indices.to(self.ids.device)])

    def labelled(self, labels: Tensor) -> "ArraySet":
        return ArraySet(self.images, labels.to(self.images.device), self.ids)

    def sample(self, n: int | None, seed: int = 0) -> "ArraySet":
        return self if n is None else self.take(permutation(len(self), seed)[: check_fit(n, len(self))])

    def to(self, device: Device) -> "ArraySet":
        return ArraySet(self.images.to(device), self.labels.to(device), self.ids)


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """The parts of one data set; no image of `validation` or `test` is in `train`, and label k is
    `classes[k]`.

    `digest` is a hash of the whole set; `notes` are lines about possible mistakes.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    name: str
    digest: str = ""
    notes: tuple[str, ...] = ()


def permutation(n: int, seed: int) -> Tensor:
    """A permutation of 0 … n-1 that depends only on (n, seed)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def check_fit(n: int, available: int) -> int:
    """`n` if 1 <= n <= available; DataError otherwise."""
    if whole(n) is None or not 1 <= n <= available:
        raise DataError(
            f"the number of images is {quote(n)}, but the set has {available}; give 1 to {available}"
        )
    return n
