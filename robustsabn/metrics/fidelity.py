"""Modules of torch-fidelity, an optional package."""

from importlib import import_module
from typing import Any

from robustsabn import _torchvision
from robustsabn.errors import MissingExtraError

__all__ = ["fidelity"]


def fidelity(module: str, what: str) -> Any:
    """The module `module` of torch-fidelity, which `what` need; MissingExtraError where it is missing."""
    _torchvision.load()  # torch-fidelity imports it
    try:
        return import_module(f"torch_fidelity.{module}")
    except ImportError as error:
        raise MissingExtraError(f"{what} need torch-fidelity; pip install 'robustsabn[fidelity]'") from error
