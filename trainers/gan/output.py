"""Writes generated images: a picture of a grid, a folder of PNGs, or an .npz, never incomplete."""

import contextlib
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from robustsabn.errors import UsageError
from robustsabn.files import ASIDE, check_name, replacing, writing
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote, shorten
from robustsabn.trainers.gan.pictures import enlarged
from robustsabn.trainers.runs.grids import grid

__all__ = ["check_target", "chosen_classes", "write", "write_picture"]

COLUMNS = 16


def check_target(out: Path, picture: bool = False) -> Path:
    """Check the path `--out`, which must not exist yet.

    Raises UsageError if it exists or cannot be written. A `picture` must be a .png.
    """
    place = given_path(out, "--out", UsageError)
    check_name(place)
    if picture and place.suffix != ".png":
        raise UsageError(f"--out {place}: an interpolation is a picture; give FILE.png")
    if place.suffix and place.suffix not in (".png", ".npz"):
        raise UsageError(f"--out {place}: give FILE.png, FILE.npz, or the name of a new folder")
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise UsageError(f"--out {place} exists; choose another name, or remove it")
    if not place.resolve().parent.is_dir():
        raise UsageError(f"--out {place}: there is no folder {place.parent}; make it first")
    return place


def chosen_classes(text: str | None, names: Sequence[str], present: Sequence[int]) -> list[int]:
    """The indices of the classes in `text`, by name or number; without it, of those `present` in training.

    Raises UsageError for other classes.
    """
    if text is None:
        return list(present)
    indices = [_class(word.strip(), names) for word in text.split(",")]
    if len(set(indices)) < len(indices):
        raise UsageError(f"{text} names a class twice; give each once")
    if (absent := [k for k in indices if k not in present]) != []:
        raise UsageError(f"class {shorten(names[absent[0]])} had no training images; choose other classes")
    return indices


def _class(word: str, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    hint = "" if word.isdecimal() else nearest(word, names)
    raise UsageError(f"no class {quote(word)}{hint}; this run has {shown}, or 0 to {len(names) - 1}")


def write(out: Path, images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    """Write images (N, C, H, W) in [0, 1] of classes `labels` (N,) to FILE.png, FILE.npz or a folder.

    An .npz has `images` (N, H, W, C) uint8, `labels` (N,) and `classes`; it is a data set, npz:FILE. So is
    the folder, imagefolder:FOLDER, with one folder per class.
    """
    if out.suffix == ".png":
        write_picture(out, grid(_rows(images, labels)), images.shape[-1])
    elif out.suffix == ".npz":
        pixels = _bytes(images.permute(0, 2, 3, 1))
        with replacing(out) as aside:
            np.savez_compressed(aside, images=pixels, labels=labels.numpy(), classes=np.array(list(names)))
    else:
        _write_folder(out, images, labels, names)


def write_picture(out: Path, picture: Tensor, size: int) -> None:
    """Write a picture (C, height, width) in [0, 1] of images of `size` pixels as PNG.

    Small images are enlarged.
    """
    with replacing(out) as aside:
        _image(enlarged(picture, size=size)).save(aside, "PNG")


def _write_folder(out: Path, images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    digits, folders = len(str(len(images) - 1)), _folders(names)
    aside = out.with_name(f"{ASIDE}{uuid.uuid4().hex[:12]}")
    with writing(out):
        try:
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                place = aside / folders[int(label)]
                place.mkdir(parents=True, exist_ok=True)
                _image(image).save(place / f"{i:0{digits}}.png")
            if out.is_dir():
                out.rmdir()  # empty: `check_target` rejects others
            aside.replace(out)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(aside)


def _folders(names: Sequence[str]) -> Sequence[str]:
    """Folder names of the classes: their names, or numbers if these cannot be different folders."""
    fine = all(map(_is_folder_name, names))
    if fine and len({name.casefold() for name in names}) == len(names):
        return names
    return [f"{k:0{len(str(len(names) - 1))}}" for k in range(len(names))]


def _is_folder_name(name: str) -> bool:
    """Whether a folder may have this name, and is then read as a class."""
    plain = name.isprintable() and not {"/", "\\"} & set(name)
    return plain and bool(name) and not name.startswith(".") and len(name.encode()) < 256


def _rows(images: Tensor, labels: Tensor) -> Tensor:
    """Images in rows (R, N, C, H, W): each class starts a new row, which is filled up with white."""
    each = [images[labels == k] for k in dict.fromkeys(labels.tolist())]
    width = min(COLUMNS, max(map(len, each)))
    rows = []
    for own in each:
        missing = -len(own) % width
        full = pad(own, (0, 0, 0, 0, 0, 0, 0, missing), value=1.0)
        rows += list(full.view(-1, width, *full.shape[1:]))
    return torch.stack(rows)


def _bytes(x: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = (x * 255).round().byte().numpy()
    return pixels


def _image(picture: Tensor) -> Image.Image:
    pixels = _bytes(picture.permute(1, 2, 0))
    return Image.fromarray(pixels[..., 0] if len(picture) == 1 else pixels)
