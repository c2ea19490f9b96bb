"""Calls as other libraries spell them are answered with the line to write here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from robustsabn.attacks.projections import norm_of
from robustsabn.errors import InputError
from robustsabn.scalars import real
from robustsabn.text import nearest, quote

__all__ = ["CALL", "EACH", "Attack", "answered", "answers", "gathered", "is_loader"]

CALL = "attack(model, x, y)"
EACH = f"for x, y in loader: x_adv = {CALL}"

# torchattacks, advertorch, foolbox, ART, CleverHans -> here
_MEANT = {
    **dict.fromkeys(("alpha", "eps_iter", "eps_step", "stepsize", "abs_stepsize"), "step_size"),
    **dict.fromkeys(("nb_iter", "n_iter", "max_iter", "num_steps", "iterations"), "steps"),
    **dict.fromkeys(("n_restarts", "num_restarts", "num_random_init"), "restarts"),
    **dict.fromkeys(("bs", "eval_batch_size"), "batch_size"),
}
_RADIUS = ("eps", "epsilon", "epsilons")
_NORM = ("norm", "ord", "p")
_METHODS = {
    **dict.fromkeys(("perturb", "generate", "attack", "run_standard_evaluation_individual"), CALL),
    "run_standard_evaluation": f"report = {CALL}; its images are report.x_adv",
}

F = TypeVar("F", bound=Callable[..., Any])


def answered(usage: str) -> Callable[[F], F]:
    """A decorator: where the arguments do not fit the function or class, InputError with the line `usage`."""

    def decorate(function: F) -> F:
        if isinstance(function, type):
            cls: Any = function
            cls.__init__ = decorate(cls.__init__)
            return cast(F, cls)

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                    raise  # of the function itself, not of the call
                words = str(error).replace(".__init__()", "()").replace(".__call__()", "")
                loader = any(is_loader(arg) for arg in args[2:])
                line = EACH if usage == CALL and loader else usage
                raise InputError(f"{words}{_hint(function, kwargs)}; write {line}") from None

        return cast(F, wrapper)

    return decorate


def answers(attack: F) -> F:
    """A decorator: an attack to which a network, a norm or a radius is given instead of a threat model.

    It raises InputError with the line as it is written here, with the values that were given.
    """
    target: Any = attack
    name, is_class = target.__name__, isinstance(attack, type)
    function = target.__init__ if is_class else target

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        own = args[1:] if is_class else args
        foreign = [key for key in kwargs if key in _RADIUS or key in _NORM]
        if foreign or (own and (callable(own[0]) or real(own[0]) is not None)):
            given = foreign[0] if foreign else quote(own[0], 40)
            raise InputError(f"{name} takes a threat model, not {given}; write {_line(name, own, kwargs)}")
        return answered(_line(name, (), kwargs))(function)(*args, **kwargs)

    if is_class:
        target.__init__ = wrapper
        return attack
    return cast(F, wrapper)


class Attack:
    """Base of attacks: methods that attacks of other libraries have are answered with the call."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            words = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in _METHODS:
                words = f"{words}; an attack is called: {_METHODS[name]}"
            raise AttributeError(words, name=name, obj=self)


def gathered(x: Tensor | Iterable[Any], y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Images and labels; those of all batches where `x` is a DataLoader, or another iterable of (x, y).

    Raises InputError where labels are missing, and for single images instead of batches.
    """
    if y is not None or isinstance(x, Tensor):
        if isinstance(x, Tensor) and y is not None:
            return x, y
        raise InputError(
            f"images and labels are {type(x).__name__} and {type(y).__name__}; give tensors x and y, or a "
            "DataLoader alone"
        )
    try:
        batches = [(batch[0], batch[1]) for batch in x]
    except (TypeError, KeyError, IndexError) as error:
        raise InputError(
            f"images are {quote(x)}; give tensors x and y, or a DataLoader of batches (x, y)"
        ) from error
    if not batches:
        raise InputError("the DataLoader has no batch; give at least one image")
    if not all(isinstance(part, Tensor) and part.ndim for batch in batches for part in batch):
        raise InputError(
            f"{type(x).__name__} gives single images, not batches (x, y) of tensors; give "
            "torch.utils.data.DataLoader(dataset, batch_size=500), with a transform to tensors"
        )
    return torch.cat([image for image, _ in batches]), torch.cat([label for _, label in batches])


def is_loader(value: object) -> bool:
    """Whether `value` is a DataLoader, or another iterable of batches, rather than images."""
    return isinstance(value, Iterable) and not isinstance(value, Tensor) and not hasattr(value, "__array__")


def _line(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The call of the attack `name` as it is written here, with the values that were given."""
    numbers = [number for arg in args if (number := real(arg)) is not None]
    radius = next((real(kwargs[key]) for key in _RADIUS if key in kwargs), numbers[0] if numbers else None)
    norms = [*(kwargs[key] for key in _NORM if key in kwargs), *(arg for arg in args if isinstance(arg, str))]
    norm = next((known for value in norms if (known := norm_of(value))), "Linf")
    radius = 8 / 255 if radius is None else radius
    rest = {_MEANT.get(key, key): value for key, value in kwargs.items() if key not in (*_RADIUS, *_NORM)}
    ours = ("version", "seed", "batch_size", "attacks", "steps", "step_size", "restarts", "loss")
    options = "".join(f", {key}={_number(rest[key])}" for key in ours if key in rest)
    return f"{name}(ThreatModel({norm!r}, {_number(radius)}){options})(model, x, y)"


def _number(value: object) -> str:
    """A value as it is written: 0.0313725… is 8 / 255."""
    number = real(value)
    if number is None or not math.isfinite(number):
        return quote(value)
    if number == int(number):
        return f"{number:g}"
    parts = 255 * number
    return f"{parts:.6g} / 255" if abs(parts - round(parts)) < 1e-3 and parts < 64 else f"{number:.6g}"


def _hint(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> str:
    code = getattr(function, "__code__", None)
    known = () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return next((nearest(name, known) for name in kwargs if name not in known), "")
