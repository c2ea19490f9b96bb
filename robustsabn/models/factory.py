"""Networks that the user's own code builds."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.user_code import OwnCode

__all__ = ["from_code"]


def from_code(source: str, name: str, **options: Any) -> nn.Module:
    """The network that `name` in a Python file or an importable module builds.

    `name` is a function or class that returns an `nn.Module`, or an `nn.Module` itself. It is called with the
    `options` that are not None and that it has a parameter for. Raises ModelError if anything fails.
    """
    code = OwnCode(source, ModelError, "a model of your own is path/to/file.py:FUNCTION")
    with code.opened() as module:
        factory = code.attribute(module, name)
        if isinstance(factory, nn.Module):
            return factory
        if not callable(factory):
            raise ModelError(
                f"{name} in {source} is {type(factory).__name__}, not a function that builds a network"
            )
        model = code.run(lambda: _call(factory, options), f"{source}:{name}")
        if not isinstance(model, nn.Module):
            raise ModelError(f"{source}:{name} returned {type(model).__name__}, not a torch.nn.Module")
        return model


def _call(factory: Callable[..., Any], options: dict[str, Any]) -> Any:
    accepted = inspect.signature(factory).parameters
    return factory(**{key: value for key, value in options.items() if value is not None and key in accepted})
