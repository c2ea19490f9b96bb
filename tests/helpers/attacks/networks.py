"""Networks for the tests of attacks: linear ones, whose optimum is known, and a small convolutional one."""

import math

import torch
from torch import Tensor, nn

DUAL = {"Linf": 1.0, "L2": 2.0, "L1": math.inf}
ATTACK_NORMS = ["Linf", "L2", "L1"]


class Linear(nn.Module):
    """z = W x + b on images; `distance` is the least norm to another class when the box does not matter."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias

    def distance(self, x: Tensor, y: Tensor, norm: str) -> Tensor:
        weight, logits = self.weight.detach().double(), self(x).detach().double()
        found = torch.full((len(x),), math.inf, dtype=torch.float64)
        for row in range(len(x)):
            own = int(y[row])
            for other in range(len(weight)):
                if other != own:
                    slope = torch.linalg.vector_norm(weight[other] - weight[own], DUAL[norm])
                    gap = (logits[row, own] - logits[row, other]) / slope
                    found[row] = torch.minimum(found[row], gap)
        return found


def linear_case(
    shape: tuple[int, ...], classes: int, count: int, seed: int = 0
) -> tuple[Linear, Tensor, Tensor]:
    """A linear model, images in the middle of the box and near every boundary, and the model's own labels."""
    g = torch.Generator().manual_seed(seed)
    size = math.prod(shape)
    weight = torch.randn(classes, size, generator=g)
    model = Linear(weight, 0.02 * torch.randn(classes, generator=g) - 0.5 * weight.sum(1))
    x = 0.5 + 0.02 * (torch.rand(count, *shape, generator=g) - 0.5)
    return model, x, model(x).argmax(1)


def conv_case(
    classes: int = 10, count: int = 24, size: int = 12, channels: int = 3, seed: int = 0
) -> tuple[nn.Module, Tensor, Tensor]:
    """A small convolutional network, random images, and the network's own labels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * math.ceil(size / 4) ** 2, classes),
        ).eval()
        x = torch.rand(count, channels, size, size)
    return model, x, model(x).argmax(1)
