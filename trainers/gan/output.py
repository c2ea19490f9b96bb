"""Where generated images go: a picture of a grid, a folder of PNGs, an .npz; complete or absent."""

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
from robustsabn.text import nearest, quote
from robustsabn.trainers.gan.pictures import enlarged, grid

__all__ = ["check_target", "chosen_classes", "write", "write_picture"]

COLUMNS = 16


def check_target(out: Path, picture: bool = False) -> Path:
    """The place `--out`, where nothing is yet; UsageError, in one line, for one that is taken or cannot be written.

    A `picture` is a .png.
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


def chosen_classes(text: str | None, names: Sequence[str]) -> list[int]:
    """The places of the classes that `text` lists, by name or number, all for None; UsageError for others."""
    if text is None:
        return list(range(len(names)))
    found = [_class(word.strip(), names) for word in text.split(",")]
    if len(set(found)) < len(found):
        raise UsageError(f"{text} names a class twice; give each once")
    return found


def _class(word: str, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    hint = "" if word.isdecimal() else nearest(word, names)
    raise UsageError(f"no class {quote(word)}{hint}; this run has {shown}, or 0 to {len(names) - 1}")


def write(out: Path, images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    """Images (N, C, H, W) in [0, 1] of classes `labels` (N,) to FILE.png, FILE.npz or a folder.

    An .npz holds `images` (N, H, W, C) uint8, `labels` (N,) and `classes`, and is a data set, npz:FILE; so is the folder,
    imagefolder:FOLDER, with a folder for each class.
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
    """A picture (C, height, width) in [0, 1] of images of `size` pixels as a PNG, small ones enlarged."""
    with replacing(out) as aside:
        _image(enlarged(picture, size=size)).save(aside, "PNG")


def _write_folder(out: Path, images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    digits = len(str(len(images) - 1))
    aside = out.with_name(f"{ASIDE}{uuid.uuid4().hex[:12]}")
    with writing(out):
        try:
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                place = aside / str(names[label]).replace("/", "-")
                place.mkdir(parents=True, exist_ok=True)
                _image(image).save(place / f"{i:0{digits}}.png")
            if out.is_dir():
                out.rmdir()  # empty, or it was refused before
            aside.replace(out)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(aside)


def _rows(images: Tensor, labels: Tensor) -> Tensor:
    """Images in rows (R, N, C, H, W): a class begins a row; white where one is not full."""
    each = [images[labels == k] for k in dict.fromkeys(labels.tolist())]
    width = min(COLUMNS, max(map(len, each)))
    rows = []
    for own in each:
        missing = -len(own) % width
        full = pad(own, (0, 0, 0, 0, 0, 0, 0, missing), value=1.0)
        rows += list(full.view(-1, width, *full.shape[1:]))
    return torch.stack(rows)


def _bytes(x: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    found: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = (x * 255).round().byte().numpy()
    return found


def _image(picture: Tensor) -> Image.Image:
    pixels = _bytes(picture.permute(1, 2, 0))
    return Image.fromarray(pixels[..., 0] if len(picture) == 1 else pixels)
