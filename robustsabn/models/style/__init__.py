"""Arbitrary style transfer: an encoder with named taps, a norm that takes a style's statistics, a decoder.

    stylizer = build_stylizer(build_encoder("random"), norm="saadain", tap="relu2_1")
    style = stylizer.style_statistics(painting)                   # painting (1, 3, H, W) in [0, 1]
    picture = stylizer.stylize(photo, style, alpha=0.8)           # the size of the photo

With `norm="routes"` a network has fixed styles, which are its routes: `stylizer.stylize(photo, "waves")`.
"""

from robustsabn.models.style.encoders import Encoder, build_encoder
from robustsabn.models.style.norms import NORMS, Mix, Style, StyleStatistics
from robustsabn.models.style.stylizer import Stylizer, build_stylizer

__all__ = [
    "NORMS",
    "Encoder",
    "Mix",
    "Style",
    "StyleStatistics",
    "Stylizer",
    "build_encoder",
    "build_stylizer",
]
