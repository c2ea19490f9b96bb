"""Labelled images from public data sets, image folders and arrays."""

from robustsabn.data.sets import ArraySet, Data, ImageSet
from robustsabn.data.specs import SPECS, load, load_extra, load_test

__all__ = ["SPECS", "ArraySet", "Data", "ImageSet", "load", "load_extra", "load_test"]
