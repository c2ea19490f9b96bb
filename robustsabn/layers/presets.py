"""The named corners of the statistics x affine grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from robustsabn.layers.affine import Affine, Statistics
from robustsabn.layers.batchnorm import RoutedBatchNorm2d
from robustsabn.layers.sample_norms import RoutedInstanceNorm2d

__all__ = ["PRESETS", "AuxBN2d", "CCBN2d", "CCIN2d", "Preset", "SaAuxBN2d", "SaBN2d", "SaIN2d"]


class Preset(NamedTuple):
    """Settings of the two switches."""

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
    """Class-conditional BN: shared statistics, one affine per route, or by a vector (arXiv 1610.07629, 1809.11096)."""

    preset = "ccbn"


class SaBN2d(_Preset2d):
    """Sandwich BN: shared statistics, a shared affine, then one affine per route (arXiv 2102.11382)."""

    preset = "sabn"


class AuxBN2d(_Preset2d):
    """Auxiliary BN: statistics and affine per route (AdvProp, arXiv 1911.09665)."""

    preset = "auxbn"


class SaAuxBN2d(_Preset2d):
    """Sandwich auxiliary BN: statistics per route, a shared affine, then one per route (arXiv 2102.11382)."""

    preset = "saauxbn"


class CCIN2d(RoutedInstanceNorm2d):
    """Conditional instance norm: statistics of each sample, one affine per route, or by a vector (arXiv 1610.07629)."""

    def __init__(
        self, num_features: int, routes: int | Sequence[str] = ("clean", "adv"), **options: Any
    ) -> None:
        super().__init__(num_features, routes, affine="independent", **options)


class SaIN2d(RoutedInstanceNorm2d):
    """Sandwich instance norm: statistics of each sample, a shared affine, then one per route, or by a vector."""

    def __init__(
        self, num_features: int, routes: int | Sequence[str] = ("clean", "adv"), **options: Any
    ) -> None:
        super().__init__(num_features, routes, affine="sandwich", **options)
