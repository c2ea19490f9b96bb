"""Reads one image file; files that cannot be read exactly are refused by name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from robustsabn.errors import DataError

__all__ = ["SUFFIXES", "as_values", "check_tiff", "decode", "frames_of", "is_deep", "opened"]

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"),
}
# modes of at most 8 bits, which PIL converts to RGB exactly or, for print colours, in the usual way
_PLAIN = {"1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "RGBX"}
# tags and a value of a TIFF header
_PHOTOMETRIC, _SAMPLE_FORMAT, _SIGNED = 262, 339, 2


def decode(path: Path, size: int, white: float | None = None) -> Tensor:
    """The image in a file as (3, size, size) uint8: upright, shorter side resized to `size`, then the central
    square.

    `white` is the value of white in greyscale images of more than 8 bits, which are scaled linearly from 0.
    Raises DataError for files that cannot be decoded or have several frames or transparent pixels; for
    greyscale of more than 8 bits without `white`, or with pixels outside [0, white]."""
    with opened(path) as file:
        image = _read(file, path, white)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(image.crop((left, top, left + size, top + size)))
    if image.mode == "F":  # values in [0, 255]
        pixels = np.repeat(np.rint(pixels).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The open image file; what a decoder raises inside the block becomes a DataError that names the file."""
    try:
        with Image.open(path) as file:
            yield file
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; scale it down"
        ) from error
    except Exception as error:  # decoders may raise anything for a damaged file
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(f"{path} cannot be decoded ({reason}); repair or remove it") from error


def frames_of(file: Image.Image) -> int:
    """The number of frames or pages of an open file; 1 for MPO, from cameras: the image, then previews."""
    return 1 if file.format == "MPO" else int(getattr(file, "n_frames", 1))


def is_deep(file: Image.Image) -> bool:
    """Whether the pixels of an open file have more than 8 bits, or are not colours that RGB can hold."""
    return file.mode not in _PLAIN


def _read(file: Image.Image, path: Path, white: float | None) -> Image.Image:
    """The whole image, upright, as RGB, or as numbers in [0, 255] if its pixels have more than 8 bits."""
    if (frames := frames_of(file)) > 1:
        raise DataError(f"{path} has {frames} frames; store one image per file")
    deep = is_deep(file)
    check_tiff(file, path)
    coded = str(getattr(file, "tile", None))
    ImageOps.exif_transpose(file, in_place=True)
    if deep and file.mode[0] not in "IF":
        raise DataError(f"{path} has pixels of mode {file.mode}; convert it to RGB or greyscale")
    if deep:
        return Image.fromarray(as_values(np.array(file), path, white))
    if ";16" in coded and white != 65535:  # PIL keeps the upper 8 bits of 16
        raise DataError(
            f"{path} has 16 bits per channel; append ,white=65535 to the folder if it uses all of them, "
            "or convert it to 8 bits"
        )
    if file.has_transparency_data:
        whole = file.convert("RGBA")
        if whole.getchannel("A").getextrema()[0] != 255:
            raise DataError(
                f"{path} has transparent pixels, whose colour is not defined; put it on a background"
            )
        return whole.convert("RGB")
    return file.convert("RGB")


def check_tiff(file: Image.Image, path: Path) -> None:
    """Raise DataError if PIL reads the numbers of a TIFF file differently from its header."""
    deep = is_deep(file)
    tags = getattr(file, "tag_v2", {})
    if deep and tags.get(_PHOTOMETRIC) == 0:
        raise DataError(
            f"{path} has more than 8 bits with 0 as white (WhiteIsZero); invert it, so that 0 is black"
        )
    if not deep and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise DataError(f"{path} has signed pixels of 8 bits; convert them to numbers from 0 to 255")


def as_values(pixels: NDArray[np.generic], path: Path, white: float | None) -> NDArray[np.float32]:
    """Deep greyscale as numbers in [0, 255]; raises DataError as `decode` does."""
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{path} has pixels that are NaN or infinite; repair or remove it")
    low, high = values.min(), values.max()
    kind = f"{path} has {'float' if pixels.dtype.kind == 'f' else f'{8 * pixels.itemsize}-bit'} pixels"
    if white is None:
        raise DataError(
            f"{kind} from {low:g} to {high:g}, and the file does not say which value is white; append it to "
            "the folder: ,white=65535 for 16 bits, ,white=4095 for 12 bits in 16, ,white=1 for floats in "
            "[0, 1]"
        )
    if low < 0 or high > white:
        raise DataError(f"{kind} from {low:g} to {high:g}, outside 0 to white={white:g}; give another white")
    return (values * (255 / white)).astype(np.float32)
