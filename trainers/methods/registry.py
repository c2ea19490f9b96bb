"""Methods by name: registered ones, those in files and modules of the user's, and those of runs made
elsewhere.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from robustsabn.config.checks import check
from robustsabn.errors import ConfigError
from robustsabn.text import nearest, quote
from robustsabn.user_code import OwnCode

__all__ = ["METHODS", "Elsewhere", "Traits", "check", "complete", "elsewhere", "method"]

M = TypeVar("M", bound=type)


class Methods(dict[str, type[Any]]):
    """Classes of methods by the names that configurations have for them."""

    also = ("path/to/file.py:CLASS", "package.module:CLASS")

    def __missing__(self, name: str) -> type:
        """The class in the user's code that `name` says; KeyError where it says none, ConfigError where that
        fails.
        """
        if name.endswith(".py"):
            raise ConfigError(f"{quote(name)} is a file; name its class: {name}:CLASS")
        if (place := OwnCode.split(name)) is None:
            raise KeyError(name)
        code = OwnCode(place[0], ConfigError, "a method of your own is path/to/file.py:CLASS")
        with code.opened() as module:
            found = code.attribute(module, place[1], "class")
        self[name] = complete(found, repr(name))
        return self[name]


METHODS = Methods()


class Traits:
    """What a method says of itself, as attributes of its class: see `Method`."""

    trains: ClassVar[Literal["clean", "adv"] | None] = None
    smooths: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False
    replays: int = 1

    def check_bench(self, bench: Any, n: int) -> None:
        """ConfigError where this run is none for the method; `n` images of a batch are each process's."""


TRAITS = {name: value for name, value in vars(Traits).items() if not name.startswith("_")}


def method(name: str) -> Callable[[M], M]:
    """Class decorator: make a method known to configurations as `name`."""

    def register(cls: M) -> M:
        METHODS[name] = complete(cls, f"method {quote(name)}")
        return cls

    return register


class Elsewhere(Traits):
    """A method that another process trained with: its name and values, to be read and told, not to train
    with.
    """

    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    name: str

    def losses(self, bench: object, x: object, y: object) -> NoReturn:
        raise ConfigError(
            f"method: {quote(self.name)} is not known in this process; import what registers it, or name its "
            "class: " + " or ".join(Methods.also)
        )


def elsewhere(given: object) -> Elsewhere | None:
    """The method that a run's configuration holds, where this process does not know it; no code is run to
    find it.
    """
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


def complete(cls: Any, said: str) -> type:
    """`cls`, with the defaults of the traits that it leaves out; ConfigError where it is no method, or a
    trait is misspelt.
    """
    if not isinstance(cls, type) or not callable(getattr(cls, "losses", None)):
        what = f"the class {cls.__name__}" if isinstance(cls, type) else f"of type {type(cls).__name__}"
        raise ConfigError(
            f"{said} is {what}, without losses; give a frozen dataclass with losses(self, bench, x, y)"
        )
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise ConfigError(f"{said} is the class {cls.__name__}, which lacks {lacking}; write it")
    keys = {key.name for key in fields(cls)} if is_dataclass(cls) else set()
    for name, value in vars(cls).items():
        if name.startswith("_") or callable(value) or name in keys or hasattr(Traits, name):
            continue
        if close := nearest(name, TRAITS):
            raise ConfigError(f"{said}: {name} says nothing about a method{close}")
    for name, default in TRAITS.items():
        if not hasattr(cls, name):
            setattr(cls, name, default)
    return cls
