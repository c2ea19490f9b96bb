"""The named combinations of statistics and affine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from robustsabn.layers.affine import Affine, Statistics
from robustsabn.layers.batchnorm import RoutedBatchNorm2d
from robustsabn.layers.sample_norms import RoutedInstanceNorm2d

__all__ = ["PRESETS", "AuxBN2d", "CCBN2d", "CCIN2d", "Preset", "SaAuxBN2d", "SaBN2d", "SaIN2d"]


class Preset(NamedTuple):
    """Which statistics and which affine a layer has."""

    statistics: Statistics
    affine: Affine


PRESETS: dict[str, Preset] = {
    "bn": Preset("shared", "shared"),
    "ccbn": Preset("shared", "independent"),
    "sabn": Preset("shared", "sandwich"),
    "auxbn": Preset("per_route", "independent"),
    "saauxbn": Preset("per_route", "sandwich"),
}


class _Preset2d(RoutedBatchNorm2d):
    preset: str

    def __init__(
        self, num_features: int, routes: int | Sequence[str] = ("clean", "adv"), **options: Any
    ) -> None:
        statistics, affine = PRESETS[self.preset]
        super().__init__(num_features, routes, statistics=statistics, affine=affine, **options)


class CCBN2d(_Preset2d):
    """Class-conditional BN: shared statistics, one affine per route, or by a vector with `condition=D`.

    Input (N, C, H, W). Other arguments and errors are those of `RoutedBatchNorm2d`.
    Source: arXiv 1610.07629; with a vector, BigGAN, arXiv 1809.11096.

    Example:

        >>> import torch
        >>> from robustsabn import CCBN2d, route
        >>> layer, labels = CCBN2d(8, routes=10), torch.tensor([3, 1, 4])
        >>> with route(layer, labels):
        ...     y = layer(torch.rand(3, 8, 4, 4))
    """

    preset = "ccbn"


class SaBN2d(_Preset2d):
    """Sandwich BN: shared statistics, a shared affine, then one affine per route, or by a vector.

    Input (N, C, H, W). Other arguments and errors are those of `RoutedBatchNorm2d`.
    Source: Gong et al., "Sandwich Batch Normalization", arXiv 2102.11382, equation 4.

    Example:

        >>> import torch
        >>> from robustsabn import SaBN2d, route
        >>> layer, labels = SaBN2d(8, routes=10), torch.tensor([3, 1, 4])
        >>> with route(layer, labels):
        ...     y = layer(torch.rand(3, 8, 4, 4))
        >>> layer.route_weight.shape
        torch.Size([10, 8])
    """

    preset = "sabn"


class AuxBN2d(_Preset2d):
    """Auxiliary BN: statistics and affine per route.

    Input (N, C, H, W). Other arguments and errors are those of `RoutedBatchNorm2d`.
    Source: Xie et al., "Adversarial Examples Improve Image Recognition" (AdvProp), arXiv 1911.09665.

    Example:

        >>> import torch
        >>> from robustsabn import AuxBN2d, Split, route
        >>> layer = AuxBN2d(8, ("clean", "adv"))
        >>> with route(layer, Split(clean=2, adv=2)):
        ...     y = layer(torch.rand(4, 8, 4, 4))
    """

    preset = "auxbn"


class SaAuxBN2d(_Preset2d):
    """Sandwich auxiliary BN: statistics per route, a shared affine, then one affine per route.

    Input (N, C, H, W). Other arguments and errors are those of `RoutedBatchNorm2d`.
    Source: Gong et al., "Sandwich Batch Normalization", arXiv 2102.11382, section 4.3.

    Example:

        >>> import torch
        >>> from robustsabn import SaAuxBN2d, route
        >>> layer = SaAuxBN2d(8, ("clean", "adv"))
        >>> with route(layer, "adv"):
        ...     y = layer(torch.rand(4, 8, 4, 4))
    """

    preset = "saauxbn"


class CCIN2d(RoutedInstanceNorm2d):
    """Conditional instance norm: statistics of each sample, one affine per route, or by a vector.

    Input (N, C, H, W). Other arguments and errors are those of `RoutedInstanceNorm2d`. Source: arXiv
    1610.07629.

    Example:

        >>> import torch
        >>> from robustsabn import CCIN2d, route
        >>> layer = CCIN2d(8, routes=("van-gogh", "monet"))
        >>> with route(layer, "monet"):
        ...     y = layer(torch.rand(1, 8, 4, 4))
    """

    def __init__(
        self, num_features: int, routes: int | Sequence[str] = ("clean", "adv"), **options: Any
    ) -> None:
        super().__init__(num_features, routes, affine="independent", **options)


class SaIN2d(RoutedInstanceNorm2d):
    """Sandwich instance norm: statistics of each sample, a shared affine, then one per route, or by a vector.

    Input (N, C, H, W). Other arguments and errors are those of `RoutedInstanceNorm2d`.
    Source: Gong et al., arXiv 2102.11382, with the statistics of instance norm.

    Example:

        >>> import torch
        >>> from robustsabn import SaIN2d, route
        >>> layer = SaIN2d(8, routes=10)
        >>> with route(layer, torch.tensor([3, 1])):
        ...     y = layer(torch.rand(2, 8, 4, 4))
    """

    def __init__(
        self, num_features: int, routes: int | Sequence[str] = ("clean", "adv"), **options: Any
    ) -> None:
        super().__init__(num_features, routes, affine="sandwich", **options)
