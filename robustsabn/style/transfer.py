"""Pictures of any size in a style: in tiles, with the moments of the whole picture."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustsabn.arguments import a_number, a_whole_number
from robustsabn.errors import InputError
from robustsabn.models.style import Style, StyleStatistics, Stylizer
from robustsabn.style.colours import with_luminance_of
from robustsabn.style.pictures import Picture, Pixels
from robustsabn.style.tiles import MomentSums, Tile, fade_in, spans, tiles

__all__ = ["TILE", "Progress", "check_tile", "picture_statistics", "reach", "stylize"]

TILE = 1024
"""Longest side of a tile with its surroundings, in pixels."""
FADE = 32
"""Pixels in which a tile fades into the next."""
FARTHEST = 192
"""Most pixels around a tile that are computed as well."""

Progress = Callable[[int, int], None]
"""Is told the number of the tile that is done, and of all."""


def stylize(
    stylizer: Stylizer,
    content: Picture,
    style: Style,
    *,
    alpha: float = 1.0,
    keep_colours: bool = False,
    mask: Pixels | None = None,
    tile: int = TILE,
    progress: Progress | None = None,
) -> Picture:
    """The content in a style: statistics of `picture_statistics`, a route's name, or pairs with weights.

    alpha: from 0, the reconstructed content, to 1. keep_colours: take only the luminance of the result.
    mask: (h, w), scaled to the content, 255 where the result is wanted and 0 where the content is. Pictures
    longer than `tile` are computed in tiles of at most that side, with the moments of the whole picture, so
    that the memory needed is that of a tile and the result that of the whole picture, if the network sees at
    most 192 pixels far; otherwise tiles fade into each other. Size, transparency and profile are those of
    the content. Raises InputError for values outside these ranges."""
    a_number("alpha", alpha, InputError, most=1)
    a_whole_number("tile", tile, InputError)
    device = next(stylizer.decoder.parameters()).device
    opacity = None if mask is None else _fitted(mask, content.size)
    pixels = np.zeros_like(content.pixels)
    for part, image in _stylised_tiles(stylizer, content.pixels, style, alpha, tile, progress):
        own = _images(content.pixels[part.inner], device)
        if keep_colours:
            image = with_luminance_of(image, own)
        if opacity is not None:
            image = torch.lerp(own, image, torch.from_numpy(opacity[part.inner]).to(device) / 255)
        before = _images(pixels[part.inner], device)
        image = torch.lerp(before, image, fade_in(part).to(device))
        pixels[part.inner] = (image[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return replace(content, pixels=pixels)


@torch.no_grad()
def picture_statistics(stylizer: Stylizer, picture: Picture, tile: int = TILE) -> StyleStatistics:
    """What the norm of the stylizer needs of a style picture of any size."""
    return _moments(stylizer, picture.pixels, _tiles(stylizer, picture.pixels, tile))


def check_tile(stylizer: Stylizer, tile: int) -> None:
    """Raise InputError if tiles of this side have no room for what the network sees around a pixel."""
    spans(tile + 1, tile, reach(stylizer), _whole(FADE, stylizer.stride), stylizer.stride)


@torch.no_grad()
def _stylised_tiles(
    stylizer: Stylizer,
    pixels: Pixels,
    style: Style,
    alpha: float,
    tile: int,
    progress: Progress | None,
) -> Iterator[tuple[Tile, Tensor]]:
    """Each tile, and its written part (1, 3, h, w) in the style."""
    device = next(stylizer.decoder.parameters()).device
    parts = _tiles(stylizer, pixels, tile)
    moments = _moments(stylizer, pixels, parts) if len(parts) > 1 and alpha else None
    for done, part in enumerate(parts, 1):
        image = stylizer.stylize(_images(pixels[part.outer], device), style, alpha, moments)
        yield part, image[..., part.rows.written, part.columns.written]
        if progress is not None:
            progress(done, len(parts))


def _tiles(stylizer: Stylizer, pixels: Pixels, tile: int) -> list[Tile]:
    """The tiles of a picture, with as much around them as the network sees."""
    height, width = pixels.shape[:2]
    if max(height, width) <= tile:
        return tiles((height, width), tile, 0, 0, stylizer.stride)
    return tiles((height, width), tile, reach(stylizer), _whole(FADE, stylizer.stride), stylizer.stride)


def _moments(stylizer: Stylizer, pixels: Pixels, parts: list[Tile]) -> StyleStatistics:
    """Mean and deviation (1, C) of the features of the whole picture."""
    device, sums = next(stylizer.decoder.parameters()).device, MomentSums()
    for part in parts:
        features = stylizer.encode(stylizer.padded(_images(pixels[part.outer], device)))
        sums.add(part.features(features, stylizer.stride))
    return StyleStatistics(*sums.moments())


@torch.no_grad()
def reach(stylizer: Stylizer) -> int:
    """How many pixels away the result depends on the picture, with the moments held fixed.

    At most `FARTHEST`, and a multiple of the stride. Measured: if half of a picture is NaN, so is the other
    half of the result, up to that distance."""
    stride, device = stylizer.stride, next(stylizer.decoder.parameters()).device
    most = _whole(FARTHEST, stride)
    half = most + stride
    halves = torch.zeros(2, 3, max(16, 2 * stride), 2 * half, device=device)
    halves[0, ..., half:] = halves[1, ..., :half] = torch.nan
    # some of cuDNN's algorithms compute several pixels together, and would spread NaN to all of them
    with torch.backends.cudnn.flags(enabled=False):
        spread = stylizer.decoder(stylizer.encode(halves)).isnan().any(1).any(1)
    farthest = max(int(spread[0, :half].sum()), int(spread[1, half:].sum()))
    return min(_whole(farthest, stride), most)


def _whole(length: int, stride: int) -> int:
    """`length` rounded up to a multiple of the stride."""
    return -(-length // stride) * stride


def _images(pixels: Pixels, device: torch.device) -> Tensor:
    """Pixels (H, W, 3) as images (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None] / 255


def _fitted(mask: Pixels, size: tuple[int, int]) -> Pixels:
    if mask.ndim != 2 or mask.dtype != np.uint8 or 0 in mask.shape:
        raise InputError(f"mask is {mask.dtype} {mask.shape}; give uint8 (h, w), as read_mask does")
    height, width = size
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
