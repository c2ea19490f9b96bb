"""Plain convolutions as in VGG, with fixed weights: reflection padding, ReLU, pooling by 2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn.models.style.encoders.encoder import means_with_floor

__all__ = ["RANDOM", "VGG16", "VGG19", "Convolutions", "RandomConvolutions"]

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512)
VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512)
RANDOM = (32, 32, 0, 64, 64, 0, 128)


class Convolutions(nn.Module):
    """3 x 3 convolutions with the output channels in `layers`, 0 for a pooling layer.

    The taps are the first activations after each pooling, relu1_1, relu2_1, … Pooling rounds sizes up.
    """

    def __init__(self, layers: Sequence[int], pool: Literal["max", "average"] = "max") -> None:
        super().__init__()
        self.layers, self.pool = tuple(layers), F.max_pool2d if pool == "max" else F.avg_pool2d
        widths = [3, *(width for width in layers if width)]
        self.weights = nn.ParameterList(torch.zeros(b, a, 3, 3) for a, b in pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(width) for width in widths[1:])
        self.places = {f"relu{n}_1": at for n, at in enumerate(self._first_of_blocks(), 1)}
        self.taps = tuple(self.places)
        self.channels = {tap: self.layers[at] for tap, at in self.places.items()}
        self.stride = {tap: 2 ** self.layers[:at].count(0) for tap, at in self.places.items()}

    def _first_of_blocks(self) -> list[int]:
        return [at for at, width in enumerate(self.layers) if width and (at == 0 or not self.layers[at - 1])]

    def layout(self, tap: str) -> tuple[int, ...]:
        """The layers up to the tap."""
        return self.layers[: self.places[tap] + 1]

    def forward(self, x: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Features by tap, up to and including `until`; all by default."""
        names, features, k = {at: tap for tap, at in self.places.items()}, dict[str, Tensor](), 0
        for at, width in enumerate(self.layers):
            if not width:
                x = self.pool(x, 2, ceil_mode=True)
                continue
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.weight(k), self.biases[k]).relu_()
            k += 1
            if at in names:
                features[names[at]] = x
                if names[at] == until:
                    break
        return features

    def weight(self, k: int) -> Tensor:
        """The kernel (C_out, C_in, 3, 3) of convolution `k`."""
        weight: Tensor = self.weights[k]
        return weight


class RandomConvolutions(Convolutions):
    """Orthogonal random filters, which depend on `seed` only, with average pooling.

    `calibrate` centres every unit, so that about half of them are active, and scales their mean to 1. What it
    sets (a few hundred numbers) is saved with the weights of a run.
    """

    def __init__(self, layers: Sequence[int] = RANDOM, seed: int = 1) -> None:
        super().__init__(layers, "average")
        source = torch.Generator().manual_seed(seed)
        for weight in self.weights:
            nn.init.orthogonal_(weight, generator=source)
        self.gains = nn.ParameterList(torch.ones_like(bias) for bias in self.biases)
        self.calibrated = tuple(f"{part}.{k}" for part in ("biases", "gains") for k in range(len(self.gains)))

    def weight(self, k: int) -> Tensor:
        weight: Tensor = self.weights[k] * self.gains[k].view(-1, 1, 1, 1)
        return weight

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set biases and gains on pictures x (N, 3, H, W) in [0, 1]."""
        k = 0
        for width in self.layers:
            if not width:
                x = self.pool(x, 2, ceil_mode=True)
                continue
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.weights[k])
            centre = x.mean((0, 2, 3))
            x = (x - centre.view(-1, 1, 1)).relu_()
            means = means_with_floor(x)
            x /= means.view(-1, 1, 1)
            self.biases[k].copy_(-centre / means)
            self.gains[k].copy_(1 / means)
            k += 1
