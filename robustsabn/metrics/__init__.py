"""Quality of generated images: distances in the features of a named extractor, and labels by a classifier."""

from robustsabn.metrics.before_head import BeforeHead
from robustsabn.metrics.extractor import Extractor
from robustsabn.metrics.named import extractor
from robustsabn.metrics.quality import Basis, ByClass, Judged, Quality, Spread
from robustsabn.metrics.reference import Reference, distance

__all__ = [
    "Basis",
    "BeforeHead",
    "ByClass",
    "Extractor",
    "Judged",
    "Quality",
    "Reference",
    "Spread",
    "distance",
    "extractor",
]
