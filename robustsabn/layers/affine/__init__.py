"""Affines of routed layers: a table, a linear map of a vector, a shared one, all composed at parameter size."""

from robustsabn.layers.affine.embedding import RoutedEmbedding
from robustsabn.layers.affine.parameters import Affine, Init, RoutedAffine, Statistics

__all__ = ["Affine", "Init", "RoutedAffine", "RoutedEmbedding", "Statistics"]
