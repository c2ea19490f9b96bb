"""Random crops and flips of whole batches, on the device of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["apply_crop_flip", "crop_flip", "draw_crop_flip"]


def draw_crop_flip(
    n: int, generator: torch.Generator | None = None, *, padding: int = 4, flip: bool = True
) -> Tensor:
    """Random numbers for `apply_crop_flip` on n images: (n, 3) int64, row offset, column offset, mirrored.

    Offsets are uniform in 0 … 2 padding, mirrored is 0 or 1. They are drawn on the device of `generator`.
    Processes that share a batch draw for all of it and use their own rows."""
    device = None if generator is None else generator.device
    offsets = torch.randint(2 * padding + 1, (n, 2), generator=generator, device=device)
    mirrored = torch.randint(2, (n, 1), generator=generator, device=device)
    return torch.cat([offsets, mirrored if flip else torch.zeros_like(mirrored)], dim=1)


def apply_crop_flip(x: Tensor, draws: Tensor, *, padding: int = 4) -> Tensor:
    """Images x (n, C, H, W), padded with zeros, cropped at the offsets in `draws` (n, 3), then mirrored."""
    rows, columns, mirrored = draws.to(x.device, non_blocking=True).unbind(1)
    *_, h, w = x.shape
    # a view of every possible crop (n, C, 2p+1, 2p+1, H, W); the index copies the chosen ones
    crops = F.pad(x, [padding] * 4).unfold(2, h, 1).unfold(3, w, 1)
    cut = crops[torch.arange(len(x), device=x.device), :, rows, columns]
    return torch.where(mirrored.bool()[:, None, None, None], cut.flip(3), cut)


def crop_flip(
    x: Tensor, generator: torch.Generator | None = None, padding: int = 4, flip: bool = True
) -> Tensor:
    """Each image of x (n, C, H, W) with its own random crop after zero padding, and a random flip."""
    return apply_crop_flip(x, draw_crop_flip(len(x), generator, padding=padding, flip=flip), padding=padding)
