"""Window sizes and patterns of the Square attack."""

import math

import torch
from torch import Tensor

__all__ = ["PHASES", "bump", "pattern", "pattern_table", "sides"]

# first query of each phase; each phase halves the share of pixels in the window
PHASES = (0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
_SHARE = 0.8


def sides(norm: str, height: int, width: int) -> list[int]:
    """Side of the square window in each phase. Source: Andriushchenko et al., ECCV 2020, section 5."""
    lengths = []
    for phase in range(len(PHASES)):
        side = round(math.sqrt(_SHARE / 2**phase * height * width))
        side = max(side, 1) if norm == "Linf" else max(side, 3) + (max(side, 3) % 2 == 0)
        lengths.append(min(side, height, width))
    return lengths


def bump(norm: str, height: int, width: int) -> Tensor:
    """Values that decrease with the Chebyshev distance r from the middle, of unit norm, (height, width).

    The sum of 1 / (k + 1)^2 (L2) or 1 / (k + 1)^4 (L1) over k >= r; equation 2 of the same paper.
    """
    rows = (torch.arange(height) - height // 2).abs()[:, None]
    columns = (torch.arange(width) - width // 2).abs()
    reach = max(height // 2, width // 2) + 1
    terms = torch.arange(1, reach + 1).double() ** (-2 if norm == "L2" else -4)
    value = terms.flip(0).cumsum(0).flip(0)[torch.maximum(rows, columns)]
    return value / _size(norm, value)


def pattern(norm: str, side: int) -> Tensor:
    """Two bumps of opposite sign, one above the other, of unit norm, (side, side)."""
    upper = side // 2
    halves = [bump(norm, upper, side)] if upper else []
    value = torch.cat([*halves, -bump(norm, side - upper, side)])
    return value / _size(norm, value)


def pattern_table(norm: str, all_sides: list[int]) -> Tensor:
    """The patterns of all phases, float32 (phases, 2, largest side, largest side): upright and transposed."""
    table = torch.zeros(len(all_sides), 2, max(all_sides), max(all_sides))
    for phase, side in enumerate(all_sides):
        table[phase, 0, :side, :side] = pattern(norm, side)
        table[phase, 1, :side, :side] = pattern(norm, side).T
    return table


def _size(norm: str, value: Tensor) -> Tensor:
    return value.square().sum().sqrt() if norm == "L2" else value.abs().sum()
