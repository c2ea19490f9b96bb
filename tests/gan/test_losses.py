"""Losses and the gradient penalty beside slow loops in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from robustsabn.trainers.gan.losses import LOSSES, gradient_penalty


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def slowly(name: str, real: list[float], fake: list[float]) -> tuple[float, float]:
    if name == "hinge":
        d = sum(max(0, 1 - r) for r in real) / len(real) + sum(max(0, 1 + f) for f in fake) / len(fake)
        return d, -sum(fake) / len(fake)
    if name == "non-saturating":
        d = sum(softplus(-r) for r in real) / len(real) + sum(softplus(f) for f in fake) / len(fake)
        return d, sum(softplus(-f) for f in fake) / len(fake)
    return sum(fake) / len(fake) - sum(real) / len(real), -sum(fake) / len(fake)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_definitions(name: str) -> None:
    real, fake = torch.randn(2, 7, dtype=torch.float64) * 2
    d, g = slowly(name, real.tolist(), fake.tolist())
    assert float(LOSSES[name].discriminator(real, fake)) == pytest.approx(d, abs=1e-12)
    assert float(LOSSES[name].generator(fake)) == pytest.approx(g, abs=1e-12)


def test_the_penalty_is_of_the_slope_of_each_image_and_moves_the_weights() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(1, 2, 3, 3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return (self.weight * x.square()).sum((1, 2, 3)) / 2

    network = Square()
    x = torch.randn(5, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    found = gradient_penalty(network(x), x)
    slopes = [(network.weight * image).norm() for image in x]  # of w x^2 / 2
    expected = torch.stack([(slope - 1) ** 2 for slope in slopes]).mean()
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found, network.weight)
    (reference,) = torch.autograd.grad(expected, network.weight)
    torch.testing.assert_close(slope, reference)
