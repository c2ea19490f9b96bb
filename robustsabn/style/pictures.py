"""Reads pictures of every kind as upright RGB of 8 bits, with what a new file keeps of them."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from robustsabn.data.decoding import as_values, check_tiff, frames_of, is_deep, opened
from robustsabn.errors import DataError
from robustsabn.style.profiles import as_screen_colours
from robustsabn.text import counted

__all__ = ["LARGEST_PICTURE", "Picture", "Pixels", "read_mask", "read_picture"]

Pixels = NDArray[np.uint8]

LARGEST_PICTURE = 178_956_970
"""Most pixels of a picture, PIL's limit for files from elsewhere; 13,377 x 13,377 are as many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture: `pixels` (H, W, 3), `opacity` (H, W) if it has an alpha channel, its ICC profile.

    Invisible pixels have the mean colour of the visible ones. `notes` say what of the file was not read."""

    pixels: Pixels
    opacity: Pixels | None = None
    profile: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_transparent(self) -> bool:
        """Whether some pixel is not opaque."""
        return self.opacity is not None and int(self.opacity.min()) < 255

    @property
    def image(self) -> Image.Image:
        """The picture as an image of PIL, RGB or RGBA."""
        image = Image.fromarray(self.pixels)
        if self.opacity is not None:
            image.putalpha(Image.fromarray(self.opacity))
        return image


def read_picture(path: str | Path, size: int | None = None, enlarge: bool = True) -> Picture:
    """The picture in a file, its shorter side scaled to `size` pixels if given.

    It is turned as its EXIF orientation says. Of several frames the first is read. Greyscale of 16 bits is
    scaled from 65535 to 255, floats from 1. Colours of print and greyscale with an ICC profile are converted
    to sRGB by it; a profile of RGB is kept with its pixels as they are. Raises DataError, which names the
    file, for files that cannot be decoded, and for more than `LARGEST_PICTURE` pixels."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give a picture")
    image, profile, notes = _upright(path)
    if size is not None:
        image = _scaled(image, size, enlarge, path)
    pixels = np.array(image)
    opacity = pixels[..., 3].copy() if image.mode == "RGBA" else None
    return Picture(
        pixels=_without_invisible(np.ascontiguousarray(pixels[..., :3]), opacity),
        opacity=opacity,
        profile=profile,
        notes=notes,
    )


def read_mask(path: str | Path) -> Pixels:
    """The brightness (H, W) of a picture; transparent is 0. Raises as `read_picture`."""
    picture = read_picture(path)
    mask = Image.fromarray(picture.pixels).convert("L")
    if picture.opacity is not None:
        mask = Image.composite(mask, Image.new("L", mask.size), Image.fromarray(picture.opacity))
    return np.array(mask)


def _upright(path: Path) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    """The upright image, RGB or RGBA, its profile, and notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with opened(path) as file:
            if file.width * file.height > LARGEST_PICTURE:
                raise _too_large(path, file.width, file.height)
            frames = frames_of(file)
            check_tiff(file, path)
            notes = (f"{path} has {counted(frames, 'frame')}; the first is used",) if frames > 1 else ()
            ImageOps.exif_transpose(file, in_place=True)
            if is_deep(file):
                return _eight_bits(file, path), None, notes
            image, profile = as_screen_colours(file)
            return image, profile, notes


def _eight_bits(file: Image.Image, path: Path) -> Image.Image:
    if file.mode[0] not in "IF":
        raise DataError(f"{path} has pixels of mode {file.mode}; convert it to RGB or greyscale")
    values = as_values(np.array(file), path, 1.0 if file.mode == "F" else 65535.0)
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _scaled(image: Image.Image, size: int, enlarge: bool, path: Path) -> Image.Image:
    scale = size / min(image.size)
    if scale == 1 or (scale > 1 and not enlarge):
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    if width * height > LARGEST_PICTURE:
        raise _too_large(path, width, height)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _too_large(path: Path, width: int, height: int) -> DataError:
    return DataError(
        f"{path}: {width} x {height} pixels are more than {LARGEST_PICTURE:,}; scale the picture down"
    )


def _without_invisible(pixels: Pixels, opacity: Pixels | None) -> Pixels:
    """`pixels` with the mean colour of the visible ones where `opacity` is 0, whose colour is arbitrary."""
    if opacity is None or not (visible := opacity > 0).any() or visible.all():
        return pixels
    mean = np.average(pixels.reshape(-1, 3), axis=0, weights=opacity.reshape(-1).astype(np.float64))
    pixels[~visible] = np.rint(mean).astype(np.uint8)
    return pixels
