"""Differentiable augmentation: the discriminator sees real and generated images changed alike, gradients pass through."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from robustsabn.trainers.gan.config import DiffAugment

__all__ = ["DRAWS", "augmented"]

DRAWS = 7
"""Random numbers that an image takes."""


def augmented(x: Tensor, draws: Tensor, config: DiffAugment) -> Tensor:
    """Images x (N, C, H, W) in [-1, 1], changed as `draws` (N, DRAWS), uniform in [0, 1), say.

    What is cut out or comes from beyond the border is 0. Zhao et al., "Differentiable Augmentation", NeurIPS 2020.
    """
    if config.colour:
        x = _coloured(x, draws[:, :3, None, None, None].unbind(1))
    if config.translation:
        x = _translated(x, draws[:, 3:5], config.translation)
    if config.cutout:
        x = _cut(x, draws[:, 5:7], config.cutout)
    return x


def _coloured(x: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
    """Brightness moved by -0.5 to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    brightness, saturation, contrast = draws
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def _translated(x: Tensor, draws: Tensor, share: float) -> Tensor:
    n, _, height, width = x.shape
    far = [int(size * share + 0.5) for size in (height, width)]
    padded = pad(x, (far[1], far[1], far[0], far[0]))
    rows, columns = (
        (draws[:, i] * (2 * far[i] + 1)).long()[:, None] + torch.arange(size, device=x.device)
        for i, size in enumerate((height, width))
    )
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cut(x: Tensor, draws: Tensor, share: float) -> Tensor:
    """A square of `share` of the size around a pixel of the image; what lies beyond the border is lost."""
    inside = []
    for i, size in enumerate(x.shape[2:]):
        side = int(size * share + 0.5)
        first = (draws[:, i] * (size + 1 - side % 2)).long() - side // 2
        place = torch.arange(size, device=x.device) - first[:, None]
        inside.append((place >= 0) & (place < side))
    rows, columns = inside
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])
