"""Grids of images as one picture."""

import torch
from torch import Tensor

__all__ = ["grid"]


def grid(rows: Tensor, gap: int = 1) -> Tensor:
    """Rows of images (R, N, C, H, W) as one picture (C, height, width).

    White lines of `gap` pixels separate the images.
    """
    framed = torch.nn.functional.pad(rows, (0, gap, 0, gap), value=1.0)
    r, n, c, h, w = framed.shape
    return framed.permute(2, 0, 3, 1, 4).reshape(c, r * h, n * w)[:, : r * h - gap, : n * w - gap]
