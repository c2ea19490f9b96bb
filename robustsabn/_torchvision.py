"""The one door to torchvision: data sets, models and utilities need none of its compiled operators."""

import importlib
import re
import sys
from types import ModuleType

__all__ = ["lacks_operators", "load"]

_REGISTRATIONS = "torchvision._meta_registrations"


def lacks_operators(error: BaseException) -> bool:
    """Whether `error` is what torchvision raises when its wheel was built for another torch."""
    return isinstance(error, RuntimeError) and bool(
        re.fullmatch(r"operator torchvision::\S+ does not exist", str(error))
    )


def load(module: str = "torchvision") -> ModuleType:
    """Import `module` of torchvision, also from a wheel whose operators do not match the installed torch.

    Such a wheel fails while it describes its operators to torch; the description is left out then. Once
    this returned, a plain `import torchvision` elsewhere works too. Every other failure is passed on.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if not lacks_operators(error):
            raise
        sys.modules[_REGISTRATIONS] = ModuleType(_REGISTRATIONS)
        importlib.import_module("torchvision")
    return importlib.import_module(module)
