"""Routed normalisation layers, whose statistics and affine can depend on the route."""

from robustsabn.layers import rebuilt  # noqa: F401  # keeps routes where tools rebuild batch norms
from robustsabn.layers.adain import AdaIN, SaAdaIN, instance_moments
from robustsabn.layers.affine import RoutedEmbedding
from robustsabn.layers.base import RoutedNorm
from robustsabn.layers.batchnorm import (
    RoutedBatchNorm,
    RoutedBatchNorm1d,
    RoutedBatchNorm2d,
    RoutedBatchNorm3d,
)
from robustsabn.layers.presets import PRESETS, AuxBN2d, CCBN2d, CCIN2d, Preset, SaAuxBN2d, SaBN2d, SaIN2d
from robustsabn.layers.sample_norms import (
    RoutedGroupNorm,
    RoutedInstanceNorm1d,
    RoutedInstanceNorm2d,
    RoutedInstanceNorm3d,
    RoutedLayerNorm,
)

__all__ = [
    "PRESETS",
    "AdaIN",
    "AuxBN2d",
    "CCBN2d",
    "CCIN2d",
    "Preset",
    "RoutedBatchNorm",
    "RoutedBatchNorm1d",
    "RoutedBatchNorm2d",
    "RoutedBatchNorm3d",
    "RoutedEmbedding",
    "RoutedGroupNorm",
    "RoutedInstanceNorm1d",
    "RoutedInstanceNorm2d",
    "RoutedInstanceNorm3d",
    "RoutedLayerNorm",
    "RoutedNorm",
    "SaAdaIN",
    "SaAuxBN2d",
    "SaBN2d",
    "SaIN2d",
    "instance_moments",
]
