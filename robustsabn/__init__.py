"""Adversarial training with routed normalisation layers (sandwich and auxiliary batch normalisation).

Names are loaded on first use: importing this package does not import torch.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustsabn import attacks, data, metrics, models, trainers
    from robustsabn.conversion.bake import bake
    from robustsabn.conversion.convert import convert
    from robustsabn.conversion.sabn_weights import load_official
    from robustsabn.layers import (
        AdaIN,
        AuxBN2d,
        CCBN2d,
        CCIN2d,
        RoutedBatchNorm1d,
        RoutedBatchNorm2d,
        RoutedBatchNorm3d,
        RoutedEmbedding,
        RoutedGroupNorm,
        RoutedInstanceNorm1d,
        RoutedInstanceNorm2d,
        RoutedInstanceNorm3d,
        RoutedLayerNorm,
        SaAdaIN,
        SaAuxBN2d,
        SaBN2d,
        SaIN2d,
    )
    from robustsabn.routing import Blend, Condition, Router, Split, checkpoint_context, route, routes_of
    from robustsabn.trainers import export, train

__version__ = "0.1.0"
__all__ = [
    "AdaIN",
    "AuxBN2d",
    "Blend",
    "CCBN2d",
    "CCIN2d",
    "Condition",
    "RoutedBatchNorm1d",
    "RoutedBatchNorm2d",
    "RoutedBatchNorm3d",
    "RoutedEmbedding",
    "RoutedGroupNorm",
    "RoutedInstanceNorm1d",
    "RoutedInstanceNorm2d",
    "RoutedInstanceNorm3d",
    "RoutedLayerNorm",
    "Router",
    "SaAdaIN",
    "SaAuxBN2d",
    "SaBN2d",
    "SaIN2d",
    "Split",
    "__version__",
    "attacks",
    "bake",
    "checkpoint_context",
    "convert",
    "data",
    "export",
    "load_official",
    "metrics",
    "models",
    "route",
    "routes_of",
    "train",
    "trainers",
]

_HOMES = {
    **dict.fromkeys(
        ("Blend", "Condition", "Router", "Split", "checkpoint_context", "route", "routes_of"), "routing"
    ),
    "bake": "conversion.bake",
    "convert": "conversion.convert",
    "load_official": "conversion.sabn_weights",
    "export": "trainers",
    "train": "trainers",
}
_PACKAGES = ("attacks", "data", "metrics", "models", "trainers")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'robustsabn' has no attribute {name!r}")
    if name in _PACKAGES:
        return _import_module(f"robustsabn.{name}")
    return getattr(_import_module(f"robustsabn.{_HOMES.get(name, 'layers')}"), name)


def __dir__() -> list[str]:
    return __all__


# Source checkout only: attacks/, trainers/ and configs/ sit beside this folder, not inside it.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "attacks" / "__init__.py").is_file():
    __path__.append(str(_root))
