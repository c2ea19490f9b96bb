"""CutMix and MixUp: mixtures of pairs of images of a batch, with mixed labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Mixing", "Mixture", "draw_mixing"]

Mixture = Literal["cutmix", "mixup"]


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How m images of a batch are mixed, each with a partner.

    - rows (r,) int64: the images of the batch that are needed, each once.
    - own, other (m,) int64: the places of each image and of its partner in `rows`.
    - share (m,) float32: the share of the own label.
    - box (m, 4) int64: top, bottom, left, right of what CutMix takes from the partner; None mixes all pixels.
    """

    rows: Tensor
    own: Tensor
    other: Tensor
    share: Tensor
    box: Tensor | None = None

    def apply(self, x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Mixed images (m, C, H, W) and labels (m, K), whose rows sum to 1.

        x (r, C, H, W) and y (r,) are the images and labels at `rows`.
        """
        own, other, share = (t.to(x.device, non_blocking=True) for t in (self.own, self.other, self.share))
        if self.box is None:
            mixed = torch.lerp(x[other], x[own], share[:, None, None, None])
        else:
            top, bottom, left, right = self.box.to(x.device, non_blocking=True).view(-1, 4, 1, 1, 1).unbind(1)
            row = torch.arange(x.shape[2], device=x.device)[:, None]
            column = torch.arange(x.shape[3], device=x.device)
            inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
            mixed = torch.where(inside, x[other], x[own])
        labels = F.one_hot(y, classes).to(share)
        return mixed, torch.lerp(labels[other], labels[own], share[:, None])


def draw_mixing(
    kind: Mixture, n: int, size: tuple[int, int], alpha: float, seed: int, part: slice = slice(None)
) -> Mixing:
    """Random mixing of a batch of n images of `size` (H, W); returns that of the images in `part`.

    Partners are a permutation of the batch, and each image has its own lam ~ Beta(alpha, alpha). "mixup": lam
    x + (1 - lam) x'. Zhang et al., ICLR 2018, equation 1. "cutmix": a box of the partner with the area 1 -
    lam, around a uniform point and cut off at the border; lam is then the share of the area that is left. Yun
    et al., ICCV 2019, equations 1 and 2."""
    source = np.random.default_rng(seed)
    pairs = torch.stack([torch.arange(n), torch.from_numpy(source.permutation(n))])[:, part]
    rows, (own, other) = torch.unique(pairs, return_inverse=True)
    share = source.beta(alpha, alpha, n)
    if kind == "mixup":
        return Mixing(rows=rows, own=own, other=other, share=torch.from_numpy(share[part]).float())
    edges = []
    for side in size:
        half = (side * np.sqrt(1 - share)).astype(np.int64) // 2
        middle = source.integers(side, size=n)
        edges += [(middle - half).clip(0, side), (middle + half).clip(0, side)]
    top, bottom, left, right = edges
    share = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
    box = torch.from_numpy(np.stack(edges, 1)[part])
    return Mixing(rows=rows, own=own, other=other, share=torch.from_numpy(share[part]).float(), box=box)
