"""Tiles of a picture: each is computed with enough of its surroundings, and all with the same moments."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustsabn.errors import InputError

__all__ = ["MomentSums", "Span", "Tile", "fade_in", "spans", "tiles"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A tile along one side: it is computed on `outer`, written on `inner`, and `core` is its own part.

    Each is a start and an end in pixels. Cores cover the side once; `inner` also has the part before the core
    in which the tile before fades into this one.
    """

    outer: tuple[int, int]
    inner: tuple[int, int]
    core: tuple[int, int]

    @property
    def written(self) -> slice:
        """The written part within the computed one."""
        return slice(self.inner[0] - self.outer[0], self.inner[1] - self.outer[0])


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a tile."""

    rows: Span
    columns: Span

    @property
    def outer(self) -> tuple[slice, slice]:
        """The part of the picture that is computed."""
        return slice(*self.rows.outer), slice(*self.columns.outer)

    @property
    def inner(self) -> tuple[slice, slice]:
        """The part of the picture that is written."""
        return slice(*self.rows.inner), slice(*self.columns.inner)

    def features(self, found: Tensor, stride: int) -> Tensor:
        """Of the features (N, C, h, w) of the tile those of its core, which no other tile has."""
        rows, columns = (
            slice((span.core[0] - span.outer[0]) // stride, -((span.outer[0] - span.core[1]) // stride))
            for span in (self.rows, self.columns)
        )
        return found[:, :, rows, columns]


def spans(length: int, tile: int, overlap: int, fade: int, stride: int) -> list[Span]:
    """Tiles along a side of `length` pixels, at most `tile` long with their surroundings.

    `overlap` pixels around the written part are computed as well. All starts are multiples of `stride`, as
    are `overlap` and `fade`, so that a network pools the same pixels as in the whole picture. Raises
    InputError for tiles that are too small."""
    if length <= tile:
        return [Span(outer=(0, length), inner=(0, length), core=(0, length))]
    most = tile - 2 * overlap - fade
    if most < stride:
        least = 2 * overlap + fade + stride
        raise InputError(f"tile is {tile}, but this network needs tiles of at least {least} pixels")
    count = -(-length // (most - most % stride))
    core = -(-length // (count * stride)) * stride
    found = []
    for start in range(0, length, core):
        end, first = min(start + core, length), max(start - fade, 0)
        outer = (max(first - overlap, 0), min(end + overlap, length))
        found.append(Span(outer=outer, inner=(first, end), core=(start, end)))
    return found


def tiles(size: tuple[int, int], tile: int, overlap: int, fade: int, stride: int) -> list[Tile]:
    """The tiles of a picture of `size` (H, W), row by row. Raises as `spans`."""
    rows, columns = (spans(length, tile, overlap, fade, stride) for length in size)
    return [Tile(row, column) for row in rows for column in columns]


def fade_in(tile: Tile) -> Tensor:
    """Weights (h, w) of the written part of a tile over what the tiles before it have written there."""
    rows, columns = (_ramp(span) for span in (tile.rows, tile.columns))
    return rows[:, None] * columns


def _ramp(span: Span) -> Tensor:
    fade = span.core[0] - span.inner[0]
    rising = (torch.arange(fade) + 1) / (fade + 1)
    return torch.cat([rising, torch.ones(span.core[1] - span.core[0])])


class MomentSums:
    """Mean and deviation of features over all positions, from parts of them.

    Parts are merged by the law of total variance, in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, features: Tensor) -> None:
        """Count the positions of features (N, C, h, w)."""
        values = features.flatten(2).double()
        count, mean = values.shape[2], values.mean(2)
        squares = ((values - mean[..., None]) ** 2).sum(2)
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total, difference = self.count + count, mean - self.mean
        self.squares = self.squares + squares + difference**2 * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total

    def moments(self, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
        """Mean and `sqrt(unbiased variance + eps)`, each (N, C) in float32."""
        if self.mean is None or self.squares is None:
            raise ValueError("no features were added")
        std = torch.sqrt(self.squares / max(self.count - 1, 1) + eps)
        return self.mean.float(), std.float()
