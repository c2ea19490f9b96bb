"""The losses of style transfer, from moments of features."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from robustsabn.layers import instance_moments

__all__ = ["Moments", "moments", "style_losses"]

Moments = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and deviation (N, C, 1, 1) of the features at each tap."""


def moments(features: Mapping[str, Tensor], taps: tuple[str, ...]) -> Moments:
    """Moments of the features (N, C, h, w) at `taps`, in float32."""
    return {tap: instance_moments(features[tap].float()) for tap in taps}


def style_losses(found: Moments, wanted: Moments) -> dict[str, Tensor]:
    """For each tap the mean squared error of means plus that of deviations.

    Huang and Belongie, arXiv 1703.06868, equation 13, with the squared error that their code computes.
    """
    return {
        tap: F.mse_loss(found[tap][0], mean) + F.mse_loss(found[tap][1], std)
        for tap, (mean, std) in wanted.items()
    }
