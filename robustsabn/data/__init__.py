"""Labelled images from published sets, own folders and own arrays."""

from robustsabn.data.sets import ArraySet, Data, ImageSet
from robustsabn.data.specs import SPECS, load, load_extra, load_test

__all__ = ["SPECS", "ArraySet", "Data", "ImageSet", "load", "load_extra", "load_test"]
