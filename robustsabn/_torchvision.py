"""The only place that imports torchvision, of which we need none of the compiled operators."""

import importlib
import re
import sys
from types import ModuleType
from typing import Any

from robustsabn.errors import MissingExtraError

__all__ = ["lacks_operators", "load", "load_optional"]

_REGISTRATIONS = "torchvision._meta_registrations"


def lacks_operators(error: BaseException) -> bool:
    """Whether `error` is the one that torchvision raises if its wheel was built for another torch."""
    return isinstance(error, RuntimeError) and bool(
        re.fullmatch(r"operator torchvision::\S+ does not exist", str(error))
    )


def load(module: str = "torchvision") -> ModuleType:
    """Import `module` of torchvision, even if its compiled operators do not match the installed torch.

    Such a wheel fails when it registers its operators with torch; the registration is then skipped. After
    this call a plain `import torchvision` works too. Every other error is raised."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if not lacks_operators(error):
            raise
        sys.modules[_REGISTRATIONS] = ModuleType(_REGISTRATIONS)
        importlib.import_module("torchvision")
    return importlib.import_module(module)


def load_optional(module: str, missing: str) -> Any:
    """Import `module` of an optional package that imports torchvision.

    Raises MissingExtraError, with the message `missing`, where the package is not installed."""
    try:
        return load(module)
    except ImportError as error:
        raise MissingExtraError(missing) from error
