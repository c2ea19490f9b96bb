"""A set whose items come from the user's own dataset, with its own transforms."""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustsabn.data.own.pixels import pair
from robustsabn.data.sets import ArraySet, Device, ImageSet, check_fit, permutation
from robustsabn.errors import DataError, RobustsabnError
from robustsabn.text import one_line

__all__ = ["ItemSet", "is_random", "read_items"]

LARGEST_IN_MEMORY = 2**30
"""Bytes of pixels up to which a set without random transforms is kept in memory."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemSet:
    """An `ImageSet` that reads `dataset[i]` whenever a batch needs it.

    Random transforms see random numbers that depend on (`draw`, i) alone: those of Python, NumPy and torch on
    the CPU, which are as before afterwards. `workers` processes read ahead in training.
    """

    dataset: Any
    places: Tensor
    labels: Tensor
    shape: tuple[int, int, int]
    ids: Tensor
    source: str
    draw: int = 0
    workers: int = 0

    def __len__(self) -> int:
        return len(self.places)

    def batch(self, indices: Tensor, device: Device = "cpu") -> tuple[Tensor, Tensor]:
        indices = indices.cpu()
        images = torch.empty((len(indices), *self.shape))
        with _undisturbed():
            for row, place in enumerate(self.places[indices].tolist()):
                image, _ = item(self.dataset, place, self.draw, self.source)
                if image.shape != self.shape:
                    raise DataError(
                        f"{self.source}: item {place} has the shape {tuple(image.shape)}, item 0 "
                        f"{self.shape}; resize them to one size by a transform"
                    )
                images[row] = image.float() / 255 if image.dtype == torch.uint8 else image
        return images.to(device), self.labels[indices].to(device)

    def take(self, indices: Tensor) -> "ItemSet":
        rows = indices.cpu()
        return replace(self, places=self.places[rows], labels=self.labels[rows], ids=self.ids[rows])

    def labelled(self, labels: Tensor) -> "ItemSet":
        return replace(self, labels=labels)

    def drawn(self, draw: int) -> "ItemSet":
        """The same items with other random numbers for their transforms."""
        return replace(self, draw=draw)

    def sample(self, n: int | None, seed: int = 0) -> "ItemSet":
        return self if n is None else self.take(permutation(len(self), seed)[: check_fit(n, len(self))])

    def to(self, device: Device) -> "ItemSet":
        return self


def read_items(dataset: Any, source: str, workers: int = 0) -> ImageSet:
    """All items of a dataset with `__len__` and `__getitem__`.

    They are kept in memory where that changes no pixel: no random transforms, values of k / 255, at most 1
    GiB. Raises DataError for items that are no images with labels, and for images of several sizes.
    """
    try:
        n = len(dataset)
    except TypeError as error:
        raise DataError(
            f"{source} has no length; give a dataset with __len__ and __getitem__, not an iterable one"
        ) from error
    if n == 0:
        raise DataError(f"{source} is empty; give at least one image")
    with _undisturbed():
        first, _ = item(dataset, 0, 0, source)
        random_ = is_random(dataset, source)
        shape = (first.shape[0], first.shape[1], first.shape[2])
        small = n * first.numel() <= LARGEST_IN_MEMORY
        labels = None if small else _listed_labels(dataset, n, source)
        kept = torch.empty((n, *shape), dtype=torch.uint8) if small and not random_ else None
        found = torch.zeros(n, dtype=torch.long)
        for i in range(n) if labels is None else ():
            image, found[i] = item(dataset, i, 0, source)
            if image.shape != shape:
                raise DataError(
                    f"{source}: item {i} has the shape {tuple(image.shape)}, item 0 {shape}; resize them to "
                    "one size by a transform"
                )
            if kept is not None and (exact := _bytes(image)) is not None:
                kept[i] = exact
            else:
                kept = None
    labels = found if labels is None else labels
    if kept is not None:
        return ArraySet(kept, labels)
    rows = torch.arange(n)
    return ItemSet(
        dataset=dataset, places=rows, labels=labels, shape=shape, ids=rows, source=source, workers=workers
    )


def is_random(dataset: Any, source: str) -> bool:
    """Whether reading one of the first items again, with other random numbers, gives other pixels."""
    for place in range(min(len(dataset), 3)):
        first, _ = item(dataset, place, 0, source)
        for draw in range(1, 4):
            again, _ = item(dataset, place, draw, source)
            if first.shape != again.shape or not torch.equal(first, again):
                return True
    return False


def item(dataset: Any, place: int, draw: int, source: str) -> tuple[Tensor, int]:
    """Pixels and label of one item, read with random numbers that depend on (draw, place)."""
    digest = hashlib.blake2b(f"{draw}:{place}".encode(), digest_size=4).digest()
    seed = int.from_bytes(digest, "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        return pair(dataset[place], source)
    except RobustsabnError:
        raise
    except Exception as error:
        raise DataError(f"{source}: item {place} cannot be read: {one_line(error)}") from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch (CPU) after the block."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)


def _bytes(image: Tensor) -> Tensor | None:
    """The image in uint8 if that is exact."""
    if image.dtype == torch.uint8:
        return image
    scaled = image * 255
    whole = scaled.round()
    return whole.to(torch.uint8) if bool((scaled - whole).abs().max() < 1e-3) else None


def _listed_labels(dataset: Any, n: int, source: str) -> Tensor | None:
    """The labels that a large dataset lists by itself, if they agree with its first items."""
    for name in ("targets", "labels"):
        listed = getattr(dataset, name, None)
        if listed is None or not hasattr(listed, "__len__") or len(listed) != n:
            continue
        try:
            labels = torch.as_tensor(listed).long()
        except (TypeError, ValueError, RuntimeError):
            continue
        ends = range(min(n, 3))
        if labels.shape == (n,) and all(item(dataset, i, 0, source)[1] == labels[i] for i in ends):
            return labels
    return None
