"""Benches to try training methods on, and what methods do to a linear network, worked out in plain Python."""

import math
from collections.abc import Callable
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn.attacks import ThreatModel
from robustsabn.routing import Selection
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.methods import Bench, Losses, Method

__all__ = [
    "LINEAR",
    "Scripted",
    "X",
    "Y",
    "answered",
    "bench_for",
    "clipped",
    "cross_entropy",
    "divergence",
    "images",
    "linear",
    "log_softmax",
    "logits_of",
    "mean",
    "network",
    "one_hot",
    "pixels",
    "sign_ascent",
    "slope",
]

Row = list[float]


class Scripted:
    """A bench whose network answers from a formula; the selections are written down."""

    clean, adv = "clean", "adv"
    threat = ThreatModel("Linf", 0.1)
    smoothing = 0.0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def attack(self, x: Tensor, y: Tensor, **how: object) -> Tensor:
        self.asked.append("attack")
        return x + 100

    def predict(self, x: Tensor, selection: Selection) -> Tensor:
        self.asked.append(f"predict {selection}")
        return logits_of(x)

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        self.asked.append(str(selection))
        return logits_of(x)


def answered(method: Method, bench: Scripted, x: Tensor, y: Tensor) -> Losses:
    """Losses of a method on a scripted bench."""
    return method.losses(cast(Bench, bench), x, y)


def logits_of(x: Tensor) -> Tensor:
    """Two logits for images (N, 1)."""
    return torch.cat([x, 2 * x - x * x / 50], dim=1)


def network() -> nn.Sequential:
    """A small convolutional network for images (N, 1, 4, 4) of three classes."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def images(n: int = 6) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 4, 4) and labels of three classes."""
    source = torch.Generator().manual_seed(2)
    return torch.rand(n, 1, 4, 4, generator=source), torch.arange(n) % 3


def bench_for(model: nn.Module, n: int, **attack: object) -> AdversarialStep:
    """The bench of one process for batches of n images."""
    config = Attack(**{"eps": 0.06, "steps": 2, **attack})  # type: ignore[arg-type]
    acc = Accelerator(cpu=True)
    return AdversarialStep(acc, model, model, config, seed=0, batch_size=n, share=slice(0, n), classes=3)


X = torch.tensor(
    [[0.3, 0.9, 0.5, 0.1], [0.7, 0.2, 1.0, 0.4], [0.6, 0.6, 0.0, 0.8]], dtype=torch.float64
).view(3, 1, 2, 2)
Y = torch.tensor([0, 1, 1])
"""Images and labels for `linear`."""

LINEAR = ([[1.5, -2.0, 0.5, 1.0], [-1.0, 0.7, 2.0, -0.4], [0.3, 0.9, -1.1, 0.6]], [0.1, -0.2, 0.3])
"""Weights (3, 4) and biases of the network whose steps are worked out by hand."""


def linear() -> nn.Module:
    """Images (N, 1, 2, 2) to three logits in float64: W x + b of `LINEAR`."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor(LINEAR[0], dtype=torch.float64))
        model.get_parameter("1.bias").copy_(torch.tensor(LINEAR[1], dtype=torch.float64))
    return model


def pixels(x: Tensor) -> list[Row]:
    """Images as rows of numbers."""
    rows: list[Row] = x.flatten(1).tolist()
    return rows


def log_softmax(x: Row, weights: list[Row] = LINEAR[0]) -> Row:
    """Log-probabilities that `linear` gives an image."""
    z = [
        sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weights, LINEAR[1], strict=True)
    ]
    total = math.log(sum(math.exp(v) for v in z))
    return [v - total for v in z]


def divergence(log_p: Row, log_q: Row) -> float:
    """KL(p || q)."""
    return sum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))


def slope(x: Row, target: Row, weights: list[Row] = LINEAR[0]) -> Row:
    """Gradient at x of the cross-entropy between the probabilities `target` and those of `linear`."""
    off = [math.exp(a) - t for a, t in zip(log_softmax(x, weights), target, strict=True)]
    return [sum(off[k] * weights[k][i] for k in range(3)) for i in range(4)]


def one_hot(label: int) -> Row:
    return [float(k == label) for k in range(3)]


def clipped(x: Row, around: Row, eps: float) -> Row:
    """x inside eps of `around` and inside [0, 1]."""
    return [min(max(v, a - eps, 0.0), a + eps, 1.0) for v, a in zip(x, around, strict=True)]


def sign_ascent(
    x: Row, start: Row, gradient: Callable[[Row], Row], size: float, eps: float, steps: int
) -> Row:
    """Projected ascent by signs from `start`."""
    at = clipped(start, x, eps)
    for _ in range(steps):
        moved = [v + size * ((g > 0) - (g < 0)) for v, g in zip(at, gradient(at), strict=True)]
        at = clipped(moved, x, eps)
    return at


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def cross_entropy(logits: Tensor, y: Tensor) -> float:
    """Mean over the batch."""
    total = 0.0
    for row, label in zip(logits.tolist(), y.tolist(), strict=True):
        total += -math.log(math.exp(row[label]) / sum(math.exp(z) for z in row))
    return total / len(y)
