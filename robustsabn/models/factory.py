"""Networks that a user's own code builds."""

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from robustsabn import _torchvision
from robustsabn.errors import ModelError

__all__ = ["from_file", "from_module"]


def from_file(path: Path, name: str, **options: Any) -> nn.Module:
    """The network that `name` in the Python file `path` builds; it may import files beside it. See `from_module`."""
    if not path.is_file():
        raise ModelError(f"no such file: {path}; a model of your own is path/to/file.py:FUNCTION")
    with _importable(path.resolve().parent):
        return _build(_run(str(path), lambda: _execute(path)), str(path), name, options)


def from_module(module: str, name: str, **options: Any) -> nn.Module:
    """The network that `name` of an importable module builds; the working directory is importable too.

    `name` is a function or class that gives an `nn.Module`, or a module itself. It is called with those of
    `options` that it has a parameter for and that are not None. Raises ModelError when anything fails.
    """
    with _importable(Path.cwd()):
        return _build(_run(module, lambda: importlib.import_module(module)), module, name, options)


def _build(source: ModuleType, place: str, name: str, options: dict[str, Any]) -> nn.Module:
    factory = getattr(source, name, None)
    if factory is None:
        here = [
            n
            for n, v in vars(source).items()
            if callable(v) and getattr(v, "__module__", "") == source.__name__
        ]
        close = difflib.get_close_matches(name, here, n=1)
        hint = f", did you mean {close[0]}?" if close else f"; it defines {', '.join(here) or 'no function'}"
        raise ModelError(f"{place} has no {name!r}{hint}")
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise ModelError(
            f"{name} in {place} is {type(factory).__name__}, not a function that builds a network"
        )
    model = _run(f"{place}:{name}", lambda: _call(factory, options))
    if not isinstance(model, nn.Module):
        raise ModelError(f"{place}:{name} returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _call(factory: Callable[..., Any], options: dict[str, Any]) -> Any:
    accepted = inspect.signature(factory).parameters
    return factory(**{key: value for key, value in options.items() if value is not None and key in accepted})


def _execute(path: Path) -> ModuleType:
    name = f"_user_{path.stem}"  # apart from installed modules of the same name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _run(place: str, action: Callable[[], Any]) -> Any:
    """The result of a user's code, its failures as ModelError with their place."""
    try:
        try:
            return action()
        except RuntimeError as error:
            if not _torchvision.lacks_operators(error):
                raise
            _torchvision.load()
            return action()
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"{place} failed: {reason} ({Path(frame.filename).name}, line {frame.lineno})"
        ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before
