"""Pictures of generated images: rows of classes, and interpolations of classes and latents."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from robustsabn.trainers.gan.sampling import between_classes, between_latents, generated, latents
from robustsabn.trainers.runs.grids import grid
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["enlarged", "show_samples", "spread_classes"]

ROWS, COLUMNS = 10, 8


def enlarged(picture: Tensor, least: int = 32, size: int = 8) -> Tensor:
    """Repeat the pixels of a picture so that images of `size` pixels get at least `least` pixels per side."""
    times = max(1, -(-least // size))
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)


def spread_classes(present: Sequence[int], most: int = ROWS) -> list[int]:
    """At most `most` of the classes, evenly spaced."""
    n = min(most, len(present))
    return [present[i * len(present) // n] for i in range(n)]


def show_samples(generator: nn.Module, present: Sequence[int], monitor: Monitor, step: int) -> None:
    """Log sample pictures for TensorBoard, always from the same latents.

    A column is a latent, a row a class.
    """
    classes = spread_classes(present)
    z = latents(generator, COLUMNS)
    rows = [generated(generator, z, torch.full((COLUMNS,), k)) for k in classes]
    pictures = {"classes": torch.stack(rows)}
    ends = latents(generator, 2 * len(classes), seed=1).view(2, len(classes), -1)
    pictures["between latents"] = between_latents(generator, ends, torch.tensor(classes), COLUMNS)
    ways = [
        between_classes(generator, z[i % COLUMNS, None], a, b, COLUMNS)
        for i, (a, b) in enumerate(pairwise(classes))
    ]
    pictures["between classes"] = torch.cat(ways)
    for name, images in pictures.items():
        picture = enlarged(grid(images), size=images.shape[-1])
        monitor.picture(f"samples/{name}", picture, step)
