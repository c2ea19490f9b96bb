"""Images from tensors, sets or iterables, as checked batches and never the whole set at once."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor

from robustsabn.data.folder import FolderSet
from robustsabn.data.sets import ArraySet, Device, ImageSet
from robustsabn.errors import InputError
from robustsabn.text import counted, quote

__all__ = ["Batch", "Images", "batches", "count", "fitted", "is_set"]

Images = Tensor | ImageSet | Iterable[Tensor | tuple[Tensor, Tensor]]
"""A tensor (N, C, H, W), a set of `robustsabn.data` (labels of -1 are unknown), or any iterable of batches of
images, with labels or without."""


class Batch(NamedTuple):
    """Images (n, C, H, W) float32 in [0, 1], of 256 levels, and labels (n,) if known."""

    images: Tensor
    labels: Tensor | None


def count(images: Images) -> int | None:
    """Number of images; None if it is known only at the end."""
    if isinstance(images, Tensor) or is_set(images):
        return len(cast(ImageSet, images))
    return None


def is_set(images: object) -> bool:
    """Whether `images` is an `ImageSet`."""
    return isinstance(images, (ArraySet, FolderSet)) or all(
        hasattr(images, name) for name in ("batch", "labels", "take", "shape")
    )


def batches(
    images: Images, labels: Tensor | None = None, *, what: str, size: int = 256, device: Device = "cpu"
) -> Iterator[Batch]:
    """Batches of at most `size` images on `device`; errors call them `what`.

    Images are uint8, or floats in [0, 1] that are rounded to 256 levels as in a file, so that a number does
    not depend on whether the images were saved first. Raises InputError for everything else, and for images
    of different shapes."""
    shape: tuple[int, ...] | None = None
    for found, y in _pieces(images, labels, what, size, device):
        x = _checked(found, what)
        if shape not in (None, tuple(x.shape[1:])):
            raise InputError(f"{what} differ in (C, H, W): {shape} and {tuple(x.shape[1:])}; make them alike")
        shape = tuple(x.shape[1:])
        if y is not None and (y.shape != x.shape[:1] or y.dtype.is_floating_point):
            raise InputError(
                f"labels of {what} must be integers ({len(x)},), one per image, not {tuple(y.shape)} "
                f"{y.dtype}"
            )
        yield Batch(x.to(device), None if y is None else y.long().cpu())
    if shape is None:
        raise InputError(f"{what}: there are none; give at least two")


def fitted(x: Tensor, channels: int | None, size: int | None, name: str) -> Tensor:
    """Images with the channels that the extractor `name` takes: grey is repeated, and equal channels become
    one.

    Raises InputError for colour images if the extractor takes grey ones, and for another size than it takes.
    """
    if size is not None and tuple(x.shape[2:]) != (size, size):
        raise InputError(
            f"the extractor {name} takes images of {size} x {size} pixels, not {x.shape[2]} x {x.shape[3]}; "
            "choose another"
        )
    if channels is None or x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if channels == 1 and (x == x[:, :1]).all():
        return x[:, :1]
    raise InputError(
        f"the extractor {name} takes images of {counted(channels, 'channel')}, these have {x.shape[1]}; "
        "choose another extractor"
    )


def _pieces(
    images: Images, labels: Tensor | None, what: str, size: int, device: Device
) -> Iterator[tuple[Tensor, Tensor | None]]:
    if labels is not None and not isinstance(labels, Tensor):
        raise InputError(f"labels of {what} are {quote(labels)}; give a torch.Tensor")
    if isinstance(images, Tensor):
        if labels is not None and len(labels) != len(images):
            raise InputError(
                f"there are {len(images)} images and {len(labels)} labels in {what}; they must agree"
            )
        yield from _parts(images, labels, size)
    elif is_set(images):
        held = cast(ImageSet, images)
        if labels is not None:
            held = held.labelled(labels)
        known = len(held) > 0 and int(held.labels.min()) >= 0
        for indices in torch.split(torch.arange(len(held)), size):
            x, y = held.batch(indices, device)
            yield x, y if known else None
    elif isinstance(images, Iterable):
        seen = 0
        for piece in cast(Iterable[Tensor | tuple[Tensor, Tensor]], images):
            pair = piece if isinstance(piece, tuple) and len(piece) == 2 else (piece, None)
            if not isinstance(x := pair[0], Tensor):
                raise InputError(
                    f"{what} come as {quote(piece)}; give batches (N, C, H, W), or pairs with labels"
                )
            own = pair[1] if labels is None else labels[seen : seen + len(x)]
            seen += len(x)
            yield from _parts(x, own, size)
    else:
        raise InputError(f"{what} are {quote(images)}; give a tensor (N, C, H, W), a set, or batches")


def _parts(x: Tensor, y: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    for i in range(0, len(x), size):
        yield x[i : i + size], None if y is None else y[i : i + size]


def _checked(x: Tensor, what: str) -> Tensor:
    if not isinstance(x, Tensor) or x.dim() != 4:
        got = f"tensors of shape {tuple(x.shape)}" if isinstance(x, Tensor) else quote(x)
        raise InputError(f"{what} are {got}; give tensors (N, C, H, W)")
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if not x.is_floating_point():
        raise InputError(f"{what} are {x.dtype}; give uint8, or floats in [0, 1]")
    if len(x):
        low, high = x.aminmax()
        if not (low >= 0 and high <= 1):  # NaN too
            raise InputError(
                f"{what} have values from {float(low):g} to {float(high):g}; floats must be in [0, 1]"
            )
    return x.float().mul(255).round_().div_(255)
