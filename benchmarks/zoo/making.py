"""Networks made by name from a module that may not be installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

__all__ = ["Options", "maker"]

Options = dict[str, Any]


def maker(module: str, name: str, options: Options) -> Callable[[], nn.Module]:
    return partial(_make, module, name, options)


def _make(module: str, name: str, options: Options) -> nn.Module:
    constructor = import_module(module)
    for part in name.split("."):
        constructor = getattr(constructor, part)
    made: nn.Module = constructor(**options)
    return made
