"""Adaptive instance normalisation, plain and sandwich."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_number, a_tensor
from robustsabn.errors import InputError
from robustsabn.layers.base import check_features

__all__ = ["AdaIN", "SaAdaIN", "instance_moments"]


def instance_moments(x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Mean and deviation `sqrt(unbiased variance + eps)` of x (N, C, *) over its positions, each (N, C, 1, ...).

    Unlike `nn.InstanceNorm2d`, which uses the biased variance.
    """
    if not x.is_floating_point() or x.ndim < 3 or x.shape[2:].numel() < 2:
        raise InputError(
            f"features {x.dtype} of shape {tuple(x.shape)}; give floats (N, C, *) with at least two positions"
        )
    var, mean = torch.var_mean(x, tuple(range(2, x.ndim)), correction=1, keepdim=True)
    return mean, torch.sqrt(var + eps)


class AdaIN(nn.Module):
    """`s(y) (x - m(x)) / s(x) + m(y)`: content x takes the channel moments of style y (arXiv 1703.06868).

    x (N, C, *), y (N, C, *) or (1, C, *); positions may differ.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = a_number("eps", eps, InputError)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Content x in the style of y."""
        a_tensor("the content", x, InputError)
        a_tensor("the style", y, InputError)
        if y.ndim != x.ndim or x.ndim < 3 or y.shape[1] != x.shape[1] or y.shape[0] not in (1, x.shape[0]):
            raise InputError(
                f"content {tuple(x.shape)} and style {tuple(y.shape)}; give equal N (or 1) and equal C"
            )
        (mean_x, std_x), (mean_y, std_y) = instance_moments(x, self.eps), instance_moments(y, self.eps)
        return self.shared_affine((x - mean_x) / std_x) * std_y + mean_y

    def shared_affine(self, xhat: Tensor) -> Tensor:
        """What happens between normalising and the style's moments: nothing."""
        return xhat


class SaAdaIN(AdaIN):
    """`s(y) (g (x - m(x)) / s(x) + b) + m(y)`: AdaIN with a learned shared affine first (arXiv 2102.11382).

    g and b are `weight` and `bias` (C,), ones and zeros at the start.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(eps)
        check_features(num_features)
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def shared_affine(self, xhat: Tensor) -> Tensor:
        """`g xhat + b`."""
        if xhat.shape[1] != len(self.weight):
            raise InputError(f"content of {xhat.shape[1]} channels in a SaAdaIN of {len(self.weight)}")
        shape = (1, -1, *(1,) * (xhat.ndim - 2))
        return torch.addcmul(self.bias.view(shape), xhat, self.weight.view(shape))
