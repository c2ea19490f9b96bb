"""Differentiable augmentation of real and generated images, through which gradients pass."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from robustsabn.trainers.gan.config import DiffAugment

__all__ = ["DRAWS", "augmented"]

DRAWS = 7
"""The number of random numbers per image."""


def augmented(x: Tensor, draws: Tensor, config: DiffAugment) -> Tensor:
    """Augment images x (N, C, H, W) in [-1, 1] by `draws` (N, DRAWS), uniform in [0, 1).

    Pixels that are cut out or come from outside the image are 0. Zhao et al., "Differentiable Augmentation",
    NeurIPS 2020.
    """
    if config.colour:
        x = _coloured(x, draws[:, :3, None, None, None].unbind(1))
    if config.translation:
        x = _translated(x, draws[:, 3:5], config.translation)
    if config.cutout:
        x = _cut(x, draws[:, 5:7], config.cutout)
    return x


def _coloured(x: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
    """Change brightness by -0.5 to 0.5, saturation by a factor of 0 to 2, contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = draws
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def _translated(x: Tensor, draws: Tensor, share: float) -> Tensor:
    n, _, height, width = x.shape
    shift = [int(size * share + 0.5) for size in (height, width)]
    padded = pad(x, (shift[1], shift[1], shift[0], shift[0]))
    rows, columns = (
        (draws[:, i] * (2 * shift[i] + 1)).long()[:, None] + torch.arange(size, device=x.device)
        for i, size in enumerate((height, width))
    )
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cut(x: Tensor, draws: Tensor, share: float) -> Tensor:
    """Set a square around a random pixel to 0; its side is `share` of the size of the image."""
    inside = []
    for i, size in enumerate(x.shape[2:]):
        side = int(size * share + 0.5)
        first = (draws[:, i] * (size + 1 - side % 2)).long() - side // 2
        place = torch.arange(size, device=x.device) - first[:, None]
        inside.append((place >= 0) & (place < side))
    rows, columns = inside
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])
