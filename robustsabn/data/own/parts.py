"""From objects that a user gives to the parts of a set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from robustsabn.data.layout import like_a_part
from robustsabn.data.own.items import ItemSet, read_items
from robustsabn.data.own.pixels import LABELS
from robustsabn.data.sets import ArraySet, ImageSet
from robustsabn.errors import DataError
from robustsabn.text import quote

__all__ = ["GIVEN", "is_loader", "own_parts"]

GIVEN = (
    "give a torch Dataset or DataLoader, a Hugging Face dataset, a pair of tensors (images, labels), or "
    "several as (train, test) or {'train': …, 'validation': …, 'test': …}"
)

_PARTS = {"train": "train", "val": "validation", "test": "test", "all": "all"}
Own = tuple[dict[str, ImageSet], tuple[str, ...] | None, list[str]]


def own_parts(given: Any, source: str) -> Own:
    """The parts of `given` ("all", or some of "train", "validation", "test"), class names if any, and notes.

    `source` names it in messages. A DataLoader stands for its dataset. Raises DataError for anything but what
    `GIVEN` lists.
    """
    objects = _by_part(given, source)
    parts, notes = {}, list[str]()
    for part, value in objects.items():
        name = source if part == "all" else f"{source} ({part})"
        parts[part] = _images(value, name, notes)
    _check_shapes({part: images.shape for part, images in parts.items()}, source)
    train = parts.get("train", parts.get("all"))
    if isinstance(train, ItemSet) and "validation" not in parts:
        notes.append(
            f"{source}: validation images are held out of the training set, with its transforms; if these "
            "are random, give (train, validation, test)"
        )
    names = next((found for value in objects.values() if (found := _names(value))), None)
    return parts, names, notes


def is_loader(value: Any) -> bool:
    """Whether `value` is a DataLoader of torch, whose batch size is meant."""
    return isinstance(value, DataLoader)


def _by_part(given: Any, source: str) -> dict[str, Any]:
    if isinstance(given, Mapping):
        named = {}
        for key, value in given.items():
            part = _PARTS.get(like_a_part(str(key)) or str(key))
            if part is None:
                raise DataError(f"{source} has the part {quote(key)}; parts are train, validation and test")
            named[part] = value
        if not named:
            raise DataError(f"{source} has no part; {GIVEN}")
        return named
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        if len(given) == 2 and all(isinstance(part, (Tensor, np.ndarray)) for part in given):
            return {"all": given}
        names = ("train", "test") if len(given) == 2 else ("train", "validation", "test")
        return dict(zip(names, given, strict=True))
    return {"all": given}


def _images(value: Any, source: str, notes: list[str]) -> ImageSet:
    if isinstance(value, ArraySet):
        return value
    workers = 0
    if isinstance(value, DataLoader):
        if not hasattr(value.dataset, "__getitem__") or isinstance(value.dataset, IterableDataset):
            raise DataError(f"{source}: the loader's dataset is iterable only; give one with __getitem__")
        notes.append(f"{source}: the run shuffles and batches the loader's dataset itself, by its seed")
        value, workers = value.dataset, value.num_workers
    if isinstance(value, (tuple, list)) and len(value) == 2:
        value = _pair(value, source)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__getitem__"):
        raise DataError(f"{source} is {quote(value, 60)}; {GIVEN}")
    return read_items(value, source, workers)


def _pair(value: Sequence[Any], source: str) -> Any:
    """A dataset of the images and labels in two tensors or arrays."""
    images, labels = (torch.as_tensor(part) for part in value)
    channels_last = images.ndim == 4 and images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3)
    if isinstance(value[0], np.ndarray) and channels_last:
        images = images.permute(0, 3, 1, 2)
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{source} has images {tuple(images.shape)} and labels {tuple(labels.shape)}; give (N, C, H, W) "
            "and (N,)"
        )
    return TensorDataset(images, labels.long())


def _check_shapes(shapes: dict[str, tuple[int, int, int]], source: str) -> None:
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
        raise DataError(f"{source}: parts differ in (C, H, W): {listed}; give all images one size")


def _names(value: Any) -> tuple[str, ...] | None:
    """The class names that a dataset knows, also one inside a Subset or a loader."""
    for _ in range(8):
        features = getattr(value, "features", None)  # Hugging Face
        listed = getattr(value, "classes", None)
        if isinstance(features, Mapping):
            label = next((features[name] for name in LABELS if name in features), None)
            listed = getattr(label, "names", None)
        if isinstance(listed, (list, tuple)) and listed and all(isinstance(name, str) for name in listed):
            return tuple(listed) if len(set(listed)) == len(listed) else None
        if not hasattr(value, "dataset"):
            return None
        value = value.dataset
    return None
