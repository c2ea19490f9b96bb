"""Affines of routed layers: shared, one per route, or a linear map of a vector."""

from robustsabn.layers.affine.embedding import RoutedEmbedding
from robustsabn.layers.affine.parameters import Affine, Init, RoutedAffine, Statistics

__all__ = ["Affine", "Init", "RoutedAffine", "RoutedEmbedding", "Statistics"]
