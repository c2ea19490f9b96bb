"""Normalisation as a layer of the network, so that attacks work on images in [0, 1]."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.scalars import real
from robustsabn.text import quote

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Normalize"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """(x - mean) / std per channel; x (N, C, H, W) in [0, 1], buffers `mean` and `std` (C,).

    Raises ModelError if mean and std differ in length or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        lists: list[list[Any]] = [
            list(v) if isinstance(v, Sequence) and not isinstance(v, (str, bytes)) else [v]
            for v in (mean, std)
        ]
        if not all(math.isfinite(real(v) or 0.0) and real(v) is not None for values in lists for v in values):
            raise ModelError(
                f"mean and std must be lists of numbers, one per channel, not {quote(mean)} and {quote(std)}"
            )
        mean, std = lists
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ModelError(f"mean and std need one value per channel and std > 0, not {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @classmethod
    def for_channels(
        cls, channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> "Normalize":
        """With `mean` and `std`; by default ImageNet's values for 3 channels, else 0.5."""
        usual_mean, usual_std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ([0.5] * channels,) * 2
        mean, std = usual_mean if mean is None else mean, usual_std if std is None else std
        for values in (mean, std):
            if not isinstance(values, Sequence) or len(values) != channels:
                raise ModelError(f"mean and std need {channels} values, one per channel, not {quote(values)}")
        return cls(mean, std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def extra_repr(self) -> str:
        return f"{len(self.mean)}"
