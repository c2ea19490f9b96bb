"""Small networks of style transfer with random weights, whose results are not saturated."""

import torch

from robustsabn.models.style import Stylizer, build_encoder, build_stylizer
from robustsabn.models.style.norms import StyleRoutes

__all__ = ["random_stylizer"]


def random_stylizer(norm: str = "adain", tap: str = "relu3_1", styles: tuple[str, ...] = ()) -> Stylizer:
    """A stylizer with the embedded encoder, stride 4 at its last tap, and fixed random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stylizer = build_stylizer(build_encoder("random"), norm, tap, styles).eval()
        stylizer.encoder.calibrate(torch.rand(2, 3, 32, 32))
        *_, last_bias = stylizer.decoder.parameters()
        torch.nn.init.constant_(last_bias, 0.5)
        if isinstance(stylizer.norm, StyleRoutes) and stylizer.norm.route_weight is not None:
            torch.nn.init.uniform_(stylizer.norm.route_weight, 0.5, 2)
    return stylizer
