"""The user's own code, given as path/to/file.py:NAME or package.module:NAME."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from robustsabn import _torchvision
from robustsabn.errors import RobustsabnError
from robustsabn.paths import given_path
from robustsabn.text import nearest, one_line, quote, shorten

__all__ = ["OwnCode", "kept_alive"]


@contextmanager
def kept_alive(error: type[RobustsabnError]) -> Iterator[None]:
    """Turn SystemExit of the user's code into `error` with file and line; else the program ends silently."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich exits by itself if the output is closed
            raise end.__context__ from None
        frame = traceback.extract_tb(end.__traceback__)[-1]
        raise error(
            f"the model's code ended the program: SystemExit: {shorten(end)} ({Path(frame.filename).name}, "
            f"line {frame.lineno}); remove sys.exit from it"
        ) from end


class OwnCode:
    """The user's file or module `source`; a failure in it becomes an `error` with file and line.

    `wanted` says what the user may give, such as "a model of your own is path/to/file.py:FUNCTION". A file
    can import files beside it; a module is found on the path or in the working directory."""

    def __init__(self, source: str, error: type[RobustsabnError], wanted: str) -> None:
        self.source, self.error, self.wanted = source, error, wanted
        self.file = given_path(source, "the file", error) if source.endswith(".py") else None

    @staticmethod
    def split(spec: str) -> tuple[str, str] | None:
        """The source and the NAME in `spec`; None if `spec` has neither form."""
        source, _, name = spec.rpartition(":")
        if source.endswith(".py") and name:
            return source, name
        is_module = source and all(part.isidentifier() for part in (*source.split("."), name))
        return (source, name) if is_module else None

    @contextmanager
    def opened(self) -> Iterator[ModuleType]:
        """The executed module; inside the block its own imports still work."""
        if self.file is not None and not self.file.is_file():
            raise self.error(f"no such file: {self.file}; {self.wanted}")
        before = list(sys.path)
        sys.path.insert(0, str(Path.cwd() if self.file is None else self.file.resolve().parent))
        try:
            yield self.run(self._import, self.source)
        finally:
            sys.path[:] = before

    def attribute(self, module: ModuleType, name: str, kind: str = "function") -> Any:
        """The attribute `name` of `module`; `error` with the names it defines if there is none."""
        if hasattr(module, name):
            return getattr(module, name)
        defined = [
            n
            for n, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", "") == module.__name__
        ]
        hint = nearest(name, defined) or f"; it defines {', '.join(defined) or f'no {kind}'}"
        raise self.error(f"{self.source} has no {quote(name)}{hint}")

    def run(self, action: Callable[[], Any], place: str) -> Any:
        """The result of `action`, which is user code; failures are raised as `error` with file and line."""
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
            raise self.error(
                f"{place} failed: {one_line(error)} ({Path(frame.filename).name}, line {frame.lineno})"
            ) from error

    def _import(self) -> ModuleType:
        return importlib.import_module(self.source) if self.file is None else _execute(self.file)


def _execute(path: Path) -> ModuleType:
    name = f"_user_{path.stem}"  # not the name of an installed module
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
