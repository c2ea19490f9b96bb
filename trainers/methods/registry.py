"""Methods by name: registered ones, those in the user's own code, and unknown ones of finished runs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from robustsabn.config.checks import check
from robustsabn.errors import ConfigError
from robustsabn.text import nearest, quote
from robustsabn.user_code import OwnCode

__all__ = ["METHODS", "Traits", "UnknownMethod", "check", "complete", "method", "unknown_method"]

M = TypeVar("M", bound=type)


class Methods(dict[str, type[Any]]):
    """Classes of methods by their names in configurations."""

    also = ("path/to/file.py:CLASS", "package.module:CLASS")

    def __missing__(self, name: str) -> type:
        """The class in the user's code that `name` refers to.

        Raises KeyError if it refers to none, and ConfigError if loading it fails.
        """
        if name.endswith(".py"):
            raise ConfigError(f"{quote(name)} is a file; name its class: {name}:CLASS")
        if (place := OwnCode.split(name)) is None:
            raise KeyError(name)
        code = OwnCode(place[0], ConfigError, "a method of your own is path/to/file.py:CLASS")
        with code.opened() as module:
            cls = code.attribute(module, place[1], "class")
        self[name] = complete(cls, repr(name))
        return self[name]


METHODS = Methods()


class Traits:
    """Class attributes that describe a method, see `Method`."""

    trains: ClassVar[Literal["clean", "adv"] | None] = None
    smooths: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False
    replays: int = 1

    def check_bench(self, bench: Any, n: int) -> None:
        """Raise ConfigError if this run does not suit the method.

        `n` is the number of images of a batch on each process.
        """


TRAITS = {name: value for name, value in vars(Traits).items() if not name.startswith("_")}


def method(name: str) -> Callable[[M], M]:
    """Class decorator that registers a method as `name`."""

    def register(cls: M) -> M:
        METHODS[name] = complete(cls, f"method {quote(name)}")
        return cls

    return register


class UnknownMethod(Traits):
    """Placeholder for a method that cannot be imported here: shown, never run."""

    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    name: str

    def losses(self, bench: object, x: object, y: object) -> NoReturn:
        raise ConfigError(
            f"method: {quote(self.name)} is not known in this process; import the module that registers it, "
            "or name its class: " + " or ".join(Methods.also)
        )


def unknown_method(config: object) -> UnknownMethod | None:
    """A placeholder for the method of a run's configuration, None if this process knows it.

    No code of the user is run to find out.
    """
    values: Mapping[Any, Any] = config if isinstance(config, Mapping) else {"name": config}
    name = values.get("name")
    if not isinstance(name, str) or name in METHODS or not all(str(key).isidentifier() for key in values):
        return None
    placeholder: UnknownMethod = _unknown_method_with(tuple(key for key in values if key != "name"))(**values)
    return placeholder


@cache
def _unknown_method_with(keys: tuple[str, ...]) -> type:
    """The placeholder class for these keys: one class per set of keys, so that equal values are equal."""
    fields: list[tuple[str, Any, Any] | tuple[str, Any]] = [
        ("name", str),
        *((key, Any, field(default=None)) for key in keys),
    ]
    return make_dataclass("UnknownMethod", fields, bases=(UnknownMethod,), frozen=True)


def complete(cls: Any, label: str) -> type:
    """Return `cls` with defaults for missing traits.

    Raises ConfigError if it is no method or a trait is misspelt; `label` is its name in messages.
    """
    if not isinstance(cls, type) or not callable(getattr(cls, "losses", None)):
        kind = f"the class {cls.__name__}" if isinstance(cls, type) else f"of type {type(cls).__name__}"
        raise ConfigError(
            f"{label} is {kind}, without losses; give a frozen dataclass with losses(self, bench, x, y)"
        )
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise ConfigError(f"{label} is the class {cls.__name__}, which lacks {lacking}; add it")
    keys = {key.name for key in fields(cls)} if is_dataclass(cls) else set()
    for name, value in vars(cls).items():
        if name.startswith("_") or callable(value) or name in keys or hasattr(Traits, name):
            continue
        if close := nearest(name, TRAITS):
            raise ConfigError(f"{label}: {name} is not an attribute of methods{close}")
    for name, default in TRAITS.items():
        if not hasattr(cls, name):
            setattr(cls, name, default)
    return cls
