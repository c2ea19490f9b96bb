"""Keeps the colours of the content: its chroma in the result, or its moments in the style picture."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustsabn.style.pictures import Picture, Pixels

__all__ = ["COLOURS", "colour_moments", "with_colours_of", "with_luminance_of"]

COLOURS = ("luminance", "moments")
"""Ways to keep colours: only the luminance of the result, or the style picture in the content's colours."""

_LUMA = (0.299, 0.587, 0.114)
_LEAST_VARIANCE = 1e-10
_AT_ONCE = 2**20

Array = NDArray[np.float64]


def with_luminance_of(result: Tensor, content: Tensor) -> Tensor:
    """The colours of the content (N, 3, H, W) with the luminance of the result, clipped to [0, 1].

    Cb and Cr of YCbCr (ITU-R BT.601) stay, so R, G and B of a pixel change by the same number. Gatys et al.,
    arXiv 1606.05897, section 3."""
    weights = content.new_tensor(_LUMA).view(1, 3, 1, 1)
    return (content + ((result - content) * weights).sum(1, keepdim=True)).clamp(0, 1)


def with_colours_of(style: Picture, content: Picture) -> Picture:
    """The style picture with mean and covariance of the colours of the content, clipped to [0, 1].

    Colours c become `A (c - mean) + mean of the content`, A = C_content^(1/2) C_style^(-1/2) (CORAL). A
    style of one colour stays one. Gatys et al., arXiv 1606.05897, section 4."""
    (mean, covariance), (wanted, covariance_wanted) = (colour_moments(p.pixels) for p in (style, content))
    change = _power(covariance_wanted, 0.5) @ _power(covariance, -0.5)
    colours = (style.pixels / 255 - mean) @ change.T + wanted
    return replace(style, pixels=np.rint(255 * colours.clip(0, 1)).astype(np.uint8))


def colour_moments(pixels: Pixels) -> tuple[Array, Array]:
    """Mean (3,) and covariance (3, 3) of colours (H, W, 3), in [0, 1]."""
    colours, total, products = pixels.reshape(-1, 3), np.zeros(3), np.zeros((3, 3))
    for start in range(0, len(colours), _AT_ONCE):
        values = colours[start : start + _AT_ONCE] / 255
        total += values.sum(0)
        products += values.T @ values
    mean: Array = total / len(colours)
    covariance: Array = products / len(colours) - np.outer(mean, mean)
    return mean, covariance


def _power(covariance: Array, exponent: float) -> Array:
    """A power of a symmetric matrix whose eigenvalues are at least 0."""
    values, vectors = np.linalg.eigh(covariance)
    powers: Any = values.clip(_LEAST_VARIANCE) ** exponent
    return (vectors * powers) @ vectors.T  # type: ignore[no-any-return]
