"""Images from an `.npz` file of uint8 arrays."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robustsabn.data.layout import like_a_part, shown
from robustsabn.data.sets import ArraySet
from robustsabn.errors import DataError
from robustsabn.text import one_line

__all__ = ["Arrays", "read_npz"]

_LAYOUT = "images and labels, or train_images, train_labels, test_images and test_labels"
_PREFIXES = {"all": "", "train": "train_", "validation": "val_", "test": "test_"}

Arrays = tuple[dict[str, ArraySet], tuple[str, ...] | None, list[str]]


def read_npz(path: Path) -> Arrays:
    """The parts in the file ("all", or some of "train", "validation", "test"), its class names if any, and
    notes.

    - images: uint8 (N, H, W) or (N, H, W, C) with C up to 4; labels: integers (N,) or (N, 1) from 0. The
      names of both may begin with `train_`, `val_` or `test_`.
    - classes: strings (K,), optional.

    Other arrays are ignored; notes name those of images. Raises DataError for anything else; nothing is
    unpickled."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; npz:PATH needs an .npz file with {_LAYOUT}")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an .npz archive (or is truncated); write it with numpy.savez")
    arrays: dict[str, NDArray[np.generic]] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                if name == "classes" or name.endswith(("images", "labels")):
                    array = archive[name]
                    if not isinstance(array, np.ndarray):
                        raise DataError(f"{path}: {name} is not an array; write it with numpy.savez")
                    arrays[name] = array
    except DataError:
        raise
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise DataError(
                f"{path} cannot be read ({one_line(error)}); write it with numpy.savez"
            ) from error
        raise DataError(
            f"{path}: {name} holds pickled objects; write plain numbers or strings with numpy.savez"
        ) from error
    except Exception as error:  # zip files and array headers fail in many ways
        raise DataError(
            f"{path} cannot be read ({one_line(error)}); write it again with numpy.savez"
        ) from error
    classes = _class_names(path, arrays["classes"]) if "classes" in arrays else None
    parts = _parts(path, arrays, classes)
    return parts, classes, [*_unused(path, arrays), *_dark(path, parts)]


def _dark(path: Path, parts: dict[str, ArraySet]) -> list[str]:
    """A note if all pixels are 0 or 1: numbers in [0, 1] were probably converted to uint8 without scaling."""
    if any(int(part.images.max()) > 1 for part in parts.values()):
        return []
    return [
        (f"{path}: no pixel is above 1 of 255; multiply images in [0, 1] by 255 before conversion to uint8")
    ]


def _unused(path: Path, arrays: dict[str, NDArray[np.generic]]) -> list[str]:
    """Notes about arrays of images that are not used; DataError if a name is almost that of a part."""
    known = [f"{prefix}{kind}" for prefix in _PREFIXES.values() for kind in ("images", "labels")]
    others = [name for name in arrays if name != "classes" and name not in known]
    for name in others:
        if meant := like_a_part(name.rpartition("_")[0]):
            kind = name.rpartition("_")[2]
            raise DataError(
                f"{path}: {name} is not used, since parts are named train, val and test; rename it to "
                f"{meant}_{kind}"
            )
    return [f"{path}: these arrays are not used: {shown(others)}"] if others else []


def _parts(
    path: Path, arrays: dict[str, NDArray[np.generic]], classes: tuple[str, ...] | None
) -> dict[str, ArraySet]:
    parts = {}
    for part, prefix in _PREFIXES.items():
        names = f"{prefix}images", f"{prefix}labels"
        present = [name for name in names if name in arrays]
        if len(present) == 1:
            missing = names[1] if present[0] == names[0] else names[0]
            raise DataError(f"{path} has {present[0]} but no {missing}; it needs {_LAYOUT}")
        if present:
            parts[part] = ArraySet(
                _images(path, names[0], arrays[names[0]]),
                _labels(path, names[1], arrays[names[1]], len(arrays[names[0]]), classes),
            )
    if not parts:
        raise DataError(f"{path} has no images; it needs {_LAYOUT}")
    if "all" in parts and len(parts) > 1:
        raise DataError(
            f"{path} has both images and {'/'.join(p for p in parts if p != 'all')}_images; keep one of the "
            "two"
        )
    shapes = {part: images.shape for part, images in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{path}: {' and '.join(shapes)} images differ in (C, H, W): "
            f"{', '.join(map(str, shapes.values()))}; give all images one shape"
        )
    return parts


def _images(path: Path, name: str, array: NDArray[np.generic]) -> torch.Tensor:
    if array.dtype != np.uint8:
        hint = "; scale them to 0..255 and convert" if array.dtype.kind == "f" else ""
        raise DataError(f"{path}: {name} must be uint8, not {array.dtype}{hint}")
    if array.ndim not in (3, 4):
        raise DataError(f"{path}: {name} must have shape (N, H, W) or (N, H, W, C), not {array.shape}")
    if array.size == 0:
        raise DataError(f"{path}: {name} of shape {array.shape} is empty")
    if array.ndim == 3:
        return torch.from_numpy(array).unsqueeze(1)
    if array.shape[3] > 4:
        first = array.shape[1] in (1, 3)
        hint = f"; channels go last: {name}.transpose(0, 2, 3, 1)" if first else ""
        raise DataError(
            f"{path}: {name} must have shape (N, H, W) or (N, H, W, C <= 4), not {array.shape}{hint}"
        )
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _labels(
    path: Path, name: str, array: NDArray[np.generic], n: int, classes: tuple[str, ...] | None
) -> torch.Tensor:
    if array.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} must be integers, not {array.dtype}")
    if array.shape == (n, 1):
        array = array[:, 0]
    if array.shape != (n,):
        raise DataError(f"{path}: {name} must have shape ({n},), one per image, not {array.shape}")
    labels = torch.from_numpy(array.astype(np.int64))
    if labels.min() < 0:
        raise DataError(f"{path}: {name} has the negative label {int(labels.min())}; labels count from 0")
    if classes is not None and labels.max() >= len(classes):
        raise DataError(
            f"{path}: {name} has the label {int(labels.max())}, but classes names {len(classes)}; name all "
            "classes"
        )
    return labels


def _class_names(path: Path, array: NDArray[np.generic]) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise DataError(f"{path}: classes must be (K,) strings, not {array.shape} {array.dtype}")
    names = [
        name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in array.tolist()
    ]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: classes has {twice[0]!r} more than once; give every class its own name")
    return tuple(names)
