"""Adaptive instance normalisation, plain and sandwich."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_number, a_tensor
from robustsabn.errors import InputError
from robustsabn.layers.affine.compose import compose
from robustsabn.layers.base import check_features

__all__ = ["AdaIN", "SaAdaIN", "instance_moments", "renormalise"]

Pair = tuple[Tensor, Tensor]


def instance_moments(x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Mean and deviation `sqrt(unbiased variance + eps)` of x (N, C, *) over its positions, each (N, C, 1,
    ...).

    `nn.InstanceNorm2d` uses the biased variance instead.
    """
    if not x.is_floating_point() or x.ndim < 3 or x.shape[2:].numel() < 2:
        raise InputError(
            f"features {x.dtype} of shape {tuple(x.shape)}; give floats (N, C, *) with at least two positions"
        )
    var, mean = torch.var_mean(x, tuple(range(2, x.ndim)), correction=1, keepdim=True)
    return mean, torch.sqrt(var + eps)


def renormalise(x: Tensor, moments: Pair, affine: Pair) -> Tensor:
    """`gain (x - mean) / deviation + shift` for x (N, C, *).

    `moments` are mean and deviation, `affine` gain and shift, each (N or 1, C, 1, ...).
    """
    (mean, std), (gain, shift) = moments, affine
    return torch.addcmul(shift, x - mean, gain / std)


class AdaIN(nn.Module):
    """Adaptive instance normalisation: `s(y) (x - m(x)) / s(x) + m(y)`, with the channel moments m and s.

    Content x (N, C, *) gets the moments of style y (N, C, *) or (1, C, *); the numbers of positions may
    differ. Raises InputError for other shapes. Source: Huang and Belongie, arXiv 1703.06868, equation 8.

    Example:

        >>> import torch
        >>> from robustsabn import AdaIN
        >>> content, style = torch.rand(2, 8, 16, 16), 5 + torch.rand(1, 8, 4, 4)
        >>> y = AdaIN()(content, style)
        >>> torch.allclose(y.mean((2, 3)), style.mean((2, 3)).expand(2, 8), atol=1e-3)
        True
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
        return renormalise(x, instance_moments(x, self.eps), self.affine(*instance_moments(y, self.eps)))

    def affine(self, mean: Tensor, std: Tensor) -> Pair:
        """Gain and shift (N, C, 1, ...) from the mean and deviation (N, C, 1, ...) of the style."""
        return std, mean


class SaAdaIN(AdaIN):
    """Sandwich AdaIN: `s(y) (g (x - m(x)) / s(x) + b) + m(y)`, AdaIN after a learned affine.

    The statistics of the style are the independent affine of the sandwich.

    g and b are `weight` and `bias` (C,), initialised to ones and zeros. Shapes and errors are those of
    `AdaIN`. Source: Gong et al., "Sandwich Batch Normalization", arXiv 2102.11382.

    Example:

        >>> import torch
        >>> from robustsabn import SaAdaIN
        >>> SaAdaIN(8)(torch.rand(2, 8, 16, 16), torch.rand(1, 8, 4, 4)).shape
        torch.Size([2, 8, 16, 16])
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(eps)
        check_features(num_features)
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def affine(self, mean: Tensor, std: Tensor) -> Pair:
        """`s(y) g` and `s(y) b + m(y)`: the affine of the style after the learned one."""
        if std.shape[1] != len(self.weight):
            raise InputError(
                f"content of {std.shape[1]} channels in a SaAdaIN of {len(self.weight)}; give equal numbers"
            )
        shape = (1, -1, *(1,) * (std.ndim - 2))
        gain, shift = compose(std, mean, self.weight.view(shape), self.bias.view(shape))
        assert shift is not None
        return gain, shift
