"""Losses of GANs by name, from scores (N,) of the discriminator."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

__all__ = ["LOSSES", "GanLoss", "gradient_penalty"]


class GanLoss(NamedTuple):
    """The losses of both networks.

    That of the discriminator takes scores of real and generated images, that of the generator scores of
    generated images.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean relu(1 - D(x)) + mean relu(1 + D(G(z))). Lim & Ye 2017; Miyato et al. 2018."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _logistic(real: Tensor, fake: Tensor) -> Tensor:
    """-mean log sigmoid(D(x)) - mean log(1 - sigmoid(D(G(z)))). Goodfellow et al., NeurIPS 2014."""
    return softplus(-real).mean() + softplus(fake).mean()


def _critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean D(G(z)) - mean D(x). Arjovsky et al., ICML 2017."""
    return fake.mean() - real.mean()


LOSSES: Mapping[str, GanLoss] = {
    "hinge": GanLoss(_hinge, lambda fake: -fake.mean()),
    "non-saturating": GanLoss(_logistic, lambda fake: softplus(-fake).mean()),
    "wasserstein-gp": GanLoss(_critic, lambda fake: -fake.mean()),
}


def gradient_penalty(scores: Tensor, x: Tensor) -> Tensor:
    """mean (|grad_x D(x)|_2 - 1)^2 over images x (N, C, H, W) that require gradients.

    Gulrajani et al., NeurIPS 2017.
    """
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
