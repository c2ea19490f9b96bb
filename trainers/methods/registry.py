"""Methods by name: registered ones, those in files and modules of the user's, and those of runs made elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from functools import cache
from typing import Any, ClassVar, NoReturn, TypeVar

from robustsabn.user_code import OwnCode
from robustsabn.errors import ConfigError
from robustsabn.text import quote

__all__ = ["METHODS", "Elsewhere", "check", "elsewhere", "method"]

M = TypeVar("M", bound=type)


class Methods(dict[str, type]):
    """Classes of methods by the names that configurations have for them."""

    also = ("path/to/file.py:CLASS", "package.module:CLASS")

    def __missing__(self, name: str) -> type:
        """The class in the user's code that `name` says; KeyError where it says none, ConfigError where that fails."""
        if name.endswith(".py"):
            raise ConfigError(f"{quote(name)} is a file; name its class: {name}:CLASS")
        if (place := OwnCode.split(name)) is None:
            raise KeyError(name)
        code = OwnCode(place[0], ConfigError, "a method of your own is path/to/file.py:CLASS")
        with code.opened() as module:
            found = code.attribute(module, place[1], "class")
        self[name] = _method_class(found, repr(name))
        return self[name]


METHODS = Methods()


def method(name: str) -> Callable[[M], M]:
    """Class decorator: make a method known to configurations as `name`."""

    def register(cls: M) -> M:
        METHODS[name] = _method_class(cls, f"method {quote(name)}")
        return cls

    return register


def check(fine: bool, message: str) -> None:
    """ConfigError with `message`, which begins with the key, unless `fine`."""
    if not fine:
        raise ConfigError(message)


class Elsewhere:
    """A method that another process trained with: its name and values, to be read and told, not to train with."""

    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    name: str

    def losses(self, bench: object, x: object, y: object) -> NoReturn:
        raise ConfigError(
            f"method: {quote(self.name)} is not known in this process; import what registers it, or name its class: "
            + " or ".join(Methods.also)
        )


def elsewhere(given: object) -> Elsewhere | None:
    """The method that a run's configuration holds, where this process does not know it; no code is run to find it."""
    values: Mapping[Any, Any] = given if isinstance(given, Mapping) else {"name": given}
    name = values.get("name")
    if not isinstance(name, str) or name in METHODS or not all(str(key).isidentifier() for key in values):
        return None
    found: Elsewhere = _elsewhere_with(tuple(key for key in values if key != "name"))(**values)
    return found


@cache
def _elsewhere_with(keys: tuple[str, ...]) -> type:
    """One class for equal keys, so that equal values are equal."""
    fields: list[tuple[str, Any, Any] | tuple[str, Any]] = [
        ("name", str),
        *((key, Any, field(default=None)) for key in keys),
    ]
    return make_dataclass("Elsewhere", fields, bases=(Elsewhere,), frozen=True)


def _method_class(found: Any, said: str) -> type:
    if not isinstance(found, type) or not callable(getattr(found, "losses", None)):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise ConfigError(
            f"{said} is {what}, without losses; give a frozen dataclass with losses(self, bench, x, y)"
        )
    return found
