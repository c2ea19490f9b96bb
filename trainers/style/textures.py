"""Style pictures that are drawn by code: seven kinds of textures in random palettes."""

import colorsys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["KINDS", "texture"]

Picture = NDArray[np.float64]
Grid = tuple[Picture, Picture]
"""Coordinates x and y in [0, 1) of every pixel, each (n, n)."""


def texture(seed: int, kind: str, n: int = 192) -> Tensor:
    """A texture (3, n, n) uint8 of a kind, one of `KINDS`; palette and shapes depend on the seed."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n] / n
    picture = KINDS[kind](draw, (x, y), _palette(draw)) + draw.normal(0, 0.02, (n, n, 3))
    return torch.from_numpy((picture.clip(0, 1) * 255).round().astype(np.uint8)).permute(2, 0, 1)


def _palette(draw: np.random.Generator, colours: int = 6) -> Picture:
    """Colours (K, 3) in [0, 1], most of them of similar hue."""
    hue = draw.random()

    def colour() -> tuple[float, float, float]:
        own = hue + draw.normal(0, 0.18) if draw.random() < 0.8 else draw.random()
        return colorsys.hsv_to_rgb(own % 1, draw.uniform(0.35, 1), draw.uniform(0.15, 1))

    return np.array([colour() for _ in range(colours)])


def _blocks(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    """Rectangles with dark lines between them."""
    cuts = [np.sort(draw.random(draw.integers(3, 7))) for _ in grid]
    column, row = (np.searchsorted(c, axis) for c, axis in zip(cuts, grid, strict=True))
    picture: Picture = palette[draw.integers(0, len(palette), (9, 9))[row, column]]
    for c, axis in zip(cuts, grid, strict=True):
        picture[(np.abs(axis[..., None] - c) < 0.012).any(-1)] = 0.05
    return picture


def _dots(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    picture: Picture = np.tile(palette[0], (*grid[0].shape, 1))
    for _ in range(int(draw.integers(150, 500))):
        (cx, cy), radius = draw.random(2), draw.uniform(0.012, 0.04)
        inside = (grid[0] - cx) ** 2 + (grid[1] - cy) ** 2 < radius**2
        picture[inside] = palette[draw.integers(len(palette))] * draw.uniform(0.8, 1.2)
    return picture


def _waves(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    """Curved stripes."""
    bent = _sum_of_waves(draw, grid, 6, (1, 4), (-3, 4), 0.06)
    angle, stripes = draw.random() * np.pi, draw.uniform(6, 16)
    place = (np.cos(angle) * grid[0] + np.sin(angle) * grid[1] + bent) * stripes
    shade = 0.85 + 0.3 * np.abs(place % 1 - 0.5)
    picture: Picture = palette[np.floor(place).astype(int) % len(palette)] * shade[..., None]
    return picture


def _cells(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    """The cells nearest to random points, with dark edges."""
    points = draw.random((int(draw.integers(40, 120)), 2))
    distance = (grid[1][..., None] - points[:, 0]) ** 2 + (grid[0][..., None] - points[:, 1]) ** 2
    nearest = distance.argmin(-1)
    colours = draw.integers(0, len(palette), len(points))
    picture: Picture = palette[colours[nearest]] * draw.uniform(0.8, 1.2, len(points))[nearest][..., None]
    first, second = np.sqrt(np.partition(distance, 1, -1)[..., :2]).transpose(2, 0, 1)
    picture[second - first < 0.008] = 0.1
    return picture


def _hatching(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    picture: Picture = np.tile(palette[0] * 0.3 + 0.7, (*grid[0].shape, 1))
    for _ in range(int(draw.integers(300, 700))):
        (cx, cy), angle, length = draw.random(2), draw.normal(0.8, 0.3), draw.uniform(0.05, 0.15)
        along = (grid[0] - cx) * np.cos(angle) + (grid[1] - cy) * np.sin(angle)
        across = (grid[1] - cy) * np.cos(angle) - (grid[0] - cx) * np.sin(angle)
        picture[(np.abs(along) < length) & (np.abs(across) < 0.004)] = palette[1 + draw.integers(2)] * 0.5
    return picture


def _clouds(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    """Smooth transitions between the colours."""
    height = _sum_of_waves(draw, grid, 8, (-4, 5), (-4, 5), 1.0)
    height = (height - height.min()) / np.ptp(height) * (len(palette) - 1.01)
    below, share = height.astype(int), (height % 1)[..., None]
    picture: Picture = palette[below] * (1 - share) + palette[below + 1] * share
    return picture


def _tiles(draw: np.random.Generator, grid: Grid, palette: Picture) -> Picture:
    """Squares of two colours with a disc in each."""
    count = int(draw.integers(5, 14))
    parity = (np.floor(grid[0] * count) + np.floor(grid[1] * count)).astype(int) % 2
    disc = sum(((axis * count) % 1 - 0.5) ** 2 for axis in grid) < 0.1
    picture: Picture = palette[parity]
    picture[disc] = palette[2 + parity[disc]]
    return picture


def _sum_of_waves(
    draw: np.random.Generator,
    grid: Grid,
    count: int,
    across: tuple[int, int],
    down: tuple[int, int],
    height: float,
) -> Picture:
    total = np.zeros_like(grid[0])
    for _ in range(count):
        phase = draw.integers(*across) * grid[0] + draw.integers(*down) * grid[1]
        total += draw.normal(0, height) * np.sin(2 * np.pi * phase + 6 * draw.random())
    return total


KINDS: dict[str, Callable[[np.random.Generator, Grid, Picture], Picture]] = {
    "blocks": _blocks,
    "dots": _dots,
    "waves": _waves,
    "cells": _cells,
    "hatching": _hatching,
    "clouds": _clouds,
    "tiles": _tiles,
}
