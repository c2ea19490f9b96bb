"""From an item of a dataset to pixels (C, H, W) and a label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustsabn.errors import DataError
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["IMAGES", "LABELS", "key_of", "pair", "pixels"]

IMAGES = ("image", "img", "pixel_values", "images", "x")
LABELS = ("label", "labels", "fine_label", "target", "targets", "y")

_NORMALIZE = (
    "leave Normalize out of the transforms and put it before the network: "
    "nn.Sequential(robustsabn.models.Normalize(mean, std), net)"
)


def pair(item: Any, source: str) -> tuple[Tensor, int]:
    """Pixels (C, H, W), float32 in [0, 1] or uint8, and the label of an item of `source`.

    An item is (image, label), or a mapping with a key of `IMAGES` and one of `LABELS`. Raises DataError for
    others.
    """
    if isinstance(item, Mapping):
        image, label = item[key_of(item, IMAGES, source)], item[key_of(item, LABELS, source)]
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) >= 2:
        image, label = item[0], item[1]
    else:
        raise DataError(f"{source} gives {quote(item, 60)}; an item must be (image, label)")
    number = whole(label)
    if number is None and isinstance(label, Tensor) and label.numel() == 1 and not label.is_floating_point():
        number = int(label)
    if number is None or number < 0:
        raise DataError(f"{source} has the label {quote(label, 60)}; labels are whole numbers from 0")
    return pixels(image, source), number


def key_of(item: Mapping[str, Any], names: Sequence[str], source: str) -> str:
    """The first of `names` that is a key of `item`."""
    for name in names:
        if name in item:
            return name
    raise DataError(f"{source} has {', '.join(map(str, item))}; name one of them {names[0]}")


def pixels(image: Any, source: str) -> Tensor:
    """An image of Pillow, NumPy or torch as (C, H, W), float32 in [0, 1] or uint8."""
    if hasattr(image, "convert"):  # Pillow
        image = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
        if image.ndim == 3 and image.shape[2] <= 4:
            image = image.permute(2, 0, 1)
    if not isinstance(image, Tensor) or image.ndim not in (2, 3):
        what = f"{type(image).__name__} {tuple(getattr(image, 'shape', ()))}"
        raise DataError(f"{source} has the image {what}; give a tensor (C, H, W), an array or a Pillow image")
    picture: Tensor = image[None] if image.ndim == 2 else image
    if picture.dtype == torch.uint8:
        return picture
    if not picture.is_floating_point():
        raise DataError(f"{source} has images of {picture.dtype}; give uint8, or floats in [0, 1]")
    low, high = (float(end) for end in picture.aminmax()) if picture.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1 + 1e-6):
        remedy = "divide them by 255" if low >= 0 and 1 < high <= 255 else _NORMALIZE
        raise DataError(f"{source} has images from {low:.3g} to {high:.3g}, but eps needs [0, 1]; {remedy}")
    return picture.float().clamp(max=1)
