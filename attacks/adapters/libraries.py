"""How each library names, builds and calls its attacks."""

import importlib
import importlib.metadata
import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from robustsabn import _torchvision
from robustsabn.attacks.adapters.network import Network
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError, MissingExtraError
from robustsabn.text import quote

__all__ = ["LIBRARIES", "Library", "Setting", "find", "options_of", "version_of"]

_ORDER = {"Linf": math.inf, "L2": 2, "L1": 1, "L0": 0}


@dataclass(frozen=True)
class Setting:
    """What an attack is built from: its class, the network, the ball, and the user's options."""

    cls: type
    network: Network
    threat: ThreatModel
    classes: int
    options: Mapping[str, Any]
    seed: int


def _advertorch(at: Setting, x: Tensor, y: Tensor) -> Any:
    low, high = at.threat.bounds
    given = {"norm": at.threat.norm, "ord": _ORDER[at.threat.norm], "num_classes": at.classes}
    return _build(at, {**given, "eps": at.threat.eps_max, "clip_min": low, "clip_max": high}).perturb(x, y)


def _foolbox(at: Setting, x: Tensor, y: Tensor) -> Any:
    wrapper = importlib.import_module("foolbox").PyTorchModel
    wrapped = wrapper(at.network, bounds=at.threat.bounds, device=x.device)
    return at.cls(**at.options)(wrapped, x, y, epsilons=at.threat.eps_max)[1]  # those cut to the ball


def _torchattacks(at: Setting, x: Tensor, y: Tensor) -> Any:
    given = {"eps": at.threat.eps_max, "norm": at.threat.norm, "n_classes": at.classes, "seed": at.seed}
    attack = _build(at, given)
    attack.set_device(x.device)
    return attack(x, y)


def _build(at: Setting, given: Mapping[str, Any]) -> Any:
    taken = _parameters(at.cls)
    return at.cls(at.network, **{name: value for name, value in given.items() if name in taken}, **at.options)


@dataclass(frozen=True)
class Library:
    """`module` holds its attacks, `run` makes adversarial images; `decided` are parameters that no user sets."""

    name: str
    module: str
    run: Callable[[Setting, Tensor, Tensor], Any]
    decided: frozenset[str]


LIBRARIES = {
    library.name: library
    for library in (
        Library(
            "advertorch",
            "advertorch.attacks",
            _advertorch,
            frozenset(["predict", "norm", "ord", "num_classes", "eps", "clip_min", "clip_max", "targeted"]),
        ),
        Library("foolbox", "foolbox.attacks", _foolbox, frozenset()),
        Library(
            "torchattacks",
            "torchattacks",
            _torchattacks,
            frozenset(["model", "eps", "norm", "n_classes", "seed"]),
        ),
    )
}


def version_of(library: Library) -> str:
    """The installed version."""
    return importlib.metadata.version(library.name)


def find(library: Library, name: str, threat: ThreatModel) -> type:
    """The attack class `name` of the library. MissingExtraError where that is not installed.

    Raises InputError for another name, and for a class made for another norm than the threat model's.
    """
    module = _load(library)
    cls: Any = getattr(module, name, None)
    if not inspect.isclass(cls):
        known = sorted(n for n, value in vars(module).items() if inspect.isclass(value))
        raise InputError(f"{library.name} has no attack {quote(name)}; it has {', '.join(known)}")
    norm = _norm_of(library, cls)
    if norm not in (None, threat.norm):
        raise InputError(
            f"{library.name}:{name} is an attack in {norm}, the threat model is {threat.norm}; choose the class "
            f"for {threat.norm}, or the norm {norm}"
        )
    if library.name == "torchattacks" and threat.bounds != (0, 1):
        raise InputError(f"torchattacks knows the box [0, 1] only, not {threat.bounds}; scale the images")
    return cls


def options_of(library: Library, cls: type) -> tuple[str, ...]:
    """What a user may say about an attack of class `cls`: its parameters but those that are decided."""
    return tuple(sorted(set(_parameters(cls)) - library.decided))


def _load(library: Library) -> ModuleType:
    try:
        _torchvision.load()  # they import it
        with warnings.catch_warnings(), _zero_gradients():
            warnings.simplefilter("ignore")
            importlib.import_module(library.name)  # fails again where it failed half-way before
            return importlib.import_module(library.module)
    except ImportError as error:
        reason = "" if error.name == library.name else f" completely ({error})"
        raise MissingExtraError(
            f"{library.name} is not installed{reason}; pip install 'robustsabn[{library.name}]'"
        ) from error


@contextmanager
def _zero_gradients() -> Iterator[None]:
    """advertorch 0.2.3, the last release, imports a function that torch 1.9 dropped; it is there inside."""
    importlib.import_module("torch.autograd.gradcheck")
    module: Any = sys.modules["torch.autograd.gradcheck"]  # the attribute of torch.autograd is a function
    module.zero_gradients = _zero
    try:
        yield
    finally:
        del module.zero_gradients


def _zero(x: Any) -> None:
    for tensor in [x] if isinstance(x, Tensor) else x:
        if tensor.grad is not None:
            tensor.grad.detach_().zero_()


def _parameters(cls: type) -> set[str]:
    """Names that a call of the class takes; those of its base too where it hands on **kwargs."""
    found: set[str] = set()
    for base in cls.__mro__[:-1]:
        if "__init__" in vars(base):
            parameters = [*inspect.signature(base.__init__).parameters.values()][1:]  # type: ignore[misc]
            found |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


def _norm_of(library: Library, cls: Any) -> str | None:
    """The one norm that a class is made for, None where it takes the norm or nothing tells."""
    parameters = _parameters(cls)
    order = getattr(getattr(cls, "distance", None), "p", None)  # foolbox
    if order is not None or {"norm", "ord"} & parameters:
        return next((norm for norm, p in _ORDER.items() if p == order), None)
    match = re.search(r"L(inf|[012])(?![0-9])", cls.__name__, re.IGNORECASE)
    if match is not None:
        return f"L{match[1].lower()}"
    return "Linf" if library.name == "torchattacks" and "eps" in parameters else None
