"""A linear network with a routed normalisation, and what it gives, in plain Python."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.layers import RoutedBatchNorm1d
from tests.helpers.methods import LINEAR, mean, pixels

__all__ = ["ascended", "batch", "log_probabilities", "lost", "routed", "started"]

Row = list[float]
SCALE = {"clean": [1.2, 0.8, 1.0], "adv": [0.7, 1.5, 1.1]}
SHIFT = {"clean": [0.1, 0.0, -0.2], "adv": [-0.3, 0.2, 0.0]}


def routed() -> nn.Module:
    """Images (N, 1, 2, 2) to three logits: W x + b, normalised and scaled per route."""
    norm = RoutedBatchNorm1d(3, statistics="per_route", affine="independent")
    table: Any = norm
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), norm).double().train()
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor(LINEAR[0], dtype=torch.float64))
        model.get_parameter("1.bias").copy_(torch.tensor(LINEAR[1], dtype=torch.float64))
        table.route_weight.copy_(torch.tensor(list(SCALE.values()), dtype=torch.float64))
        table.route_bias.copy_(torch.tensor(list(SHIFT.values()), dtype=torch.float64))
    return model


def log_probabilities(rows: list[Row], share: float, training: bool) -> list[Row]:
    """What `routed` gives images through a blend of the clean route and `share` of the adversarial one.

    In train mode, or with its initial running statistics (mean 0, variance 1).
    """
    mixed = [
        [(1 - share) * a + share * b for a, b in zip(*table.values(), strict=True)]
        for table in (SCALE, SHIFT)
    ]
    z = [
        [sum(w * v for w, v in zip(LINEAR[0][k], x, strict=True)) + LINEAR[1][k] for k in range(3)]
        for x in rows
    ]
    center, spread = [0.0] * 3, [1.0] * 3
    if training:
        center = [mean([row[k] for row in z]) for k in range(3)]
        spread = [mean([(row[k] - center[k]) ** 2 for row in z]) for k in range(3)]
    out = []
    for row in z:
        scaled = [
            mixed[0][k] * (row[k] - center[k]) / math.sqrt(spread[k] + 1e-5) + mixed[1][k] for k in range(3)
        ]
        total = math.log(sum(math.exp(v) for v in scaled))
        out.append([v - total for v in scaled])
    return out


def lost(rows: list[Row], labels: list[int], share: float, training: bool = True) -> float:
    """Mean cross-entropy."""
    return mean([-p[y] for p, y in zip(log_probabilities(rows, share, training), labels, strict=True)])


def ascended(
    rows: list[Row],
    around: list[Row],
    labels: list[int],
    size: float,
    eps: float,
    training: bool,
    share: float = 1.0,
    sign: int = 1,
) -> list[Row]:
    """One step by the signs of central differences of the loss, in the ball around `around` and the box."""
    moved = []
    for i, row in enumerate(rows):
        new = []
        for j, value in enumerate(row):
            ends = []
            for shift in (1e-6, -1e-6):
                other = [list(r) for r in rows]
                other[i][j] += shift
                ends.append(lost(other, labels, share, training))
            slope = sign * (ends[0] - ends[1])
            reached = value + size * ((slope > 0) - (slope < 0))
            new.append(min(max(reached, around[i][j] - eps, 0.0), around[i][j] + eps, 1.0))
        moved.append(new)
    return moved


def started(x: Tensor, noise: Tensor, eps: float) -> list[Row]:
    """Images with noise, in the ball and the box."""
    return [
        [min(max(v + d, v - eps, 0.0), v + eps, 1.0) for v, d in zip(a, b, strict=True)]
        for a, b in zip(pixels(x), pixels(noise), strict=True)
    ]


def batch(n: int) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 2, 2) and labels of three classes."""
    source = torch.Generator().manual_seed(3)
    return torch.rand(n, 1, 2, 2, generator=source, dtype=torch.float64), torch.arange(n) % 3
