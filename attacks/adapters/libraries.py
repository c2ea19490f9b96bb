"""How the attacks of each library are named, built and called."""

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


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an attack is built from: its class, the network, the threat model, and the user's options."""

    cls: type
    network: Network
    threat: ThreatModel
    classes: int
    options: Mapping[str, Any]
    seed: int


def _advertorch(setting: Setting, x: Tensor, y: Tensor) -> Any:
    low, high = setting.threat.bounds
    standard = {
        ("norm"): setting.threat.norm,
        "ord": _ORDER[setting.threat.norm],
        "num_classes": setting.classes,
    }
    return _build(
        setting, {**standard, "eps": setting.threat.eps_max, "clip_min": low, "clip_max": high}
    ).perturb(x, y)


def _foolbox(setting: Setting, x: Tensor, y: Tensor) -> Any:
    wrapper = importlib.import_module("foolbox").PyTorchModel
    wrapped = wrapper(setting.network, bounds=setting.threat.bounds, device=x.device)
    return setting.cls(**setting.options)(wrapped, x, y, epsilons=setting.threat.eps_max)[
        1
    ]  # [1] are the images clipped to the ball


def _torchattacks(setting: Setting, x: Tensor, y: Tensor) -> Any:
    standard = {
        ("eps"): setting.threat.eps_max,
        "norm": setting.threat.norm,
        "n_classes": setting.classes,
        "seed": setting.seed,
    }
    attack = _build(setting, standard)
    attack.set_device(x.device)
    return attack(x, y)


def _build(setting: Setting, standard: Mapping[str, Any]) -> Any:
    accepted = _parameters(setting.cls)
    return setting.cls(
        setting.network,
        **{name: value for name, value in standard.items() if name in accepted},
        **setting.options,
    )


@dataclass(frozen=True, kw_only=True)
class Library:
    """`module` holds the attacks, `run` makes adversarial images; users cannot set the options `decided`."""

    name: str
    module: str
    run: Callable[[Setting, Tensor, Tensor], Any]
    decided: frozenset[str]


LIBRARIES = {
    library.name: library
    for library in (
        Library(
            name="advertorch",
            module="advertorch.attacks",
            run=_advertorch,
            decided=frozenset(
                ["predict", "norm", "ord", "num_classes", "eps", "clip_min", "clip_max", "targeted"]
            ),
        ),
        Library(name="foolbox", module="foolbox.attacks", run=_foolbox, decided=frozenset()),
        Library(
            name="torchattacks",
            module="torchattacks",
            run=_torchattacks,
            decided=frozenset(["model", "eps", "norm", "n_classes", "seed"]),
        ),
    )
}


def version_of(library: Library) -> str:
    """The installed version."""
    return importlib.metadata.version(library.name)


def find(library: Library, name: str, threat: ThreatModel) -> type:
    """The attack class `name` of the library.

    Raises MissingExtraError where the library is not installed; InputError for an unknown name, and for a
    class made for another norm than that of the threat model."""
    module = _load(library)
    cls: Any = getattr(module, name, None)
    if not inspect.isclass(cls):
        known = sorted(n for n, value in vars(module).items() if inspect.isclass(value))
        raise InputError(f"{library.name} has no attack {quote(name)}; it has {', '.join(known)}")
    norm = _norm_of(library, cls)
    if norm not in (None, threat.norm):
        raise InputError(
            f"{library.name}:{name} is an attack in {norm}, but the threat model is {threat.norm}; choose a "
            f"class for {threat.norm}, or the norm {norm}"
        )
    if library.name == "torchattacks" and threat.bounds != (0, 1):
        raise InputError(f"torchattacks allows only bounds (0, 1), not {threat.bounds}; scale the images")
    return cls


def options_of(library: Library, cls: type) -> tuple[str, ...]:
    """The options of an attack of class `cls`: all parameters except those that we set ourselves."""
    return tuple(sorted(set(_parameters(cls)) - library.decided))


def _load(library: Library) -> ModuleType:
    try:
        _torchvision.load()  # the libraries import torchvision
        with warnings.catch_warnings(), _zero_gradients():
            warnings.simplefilter("ignore")
            importlib.import_module(library.name)  # fails again if an earlier import failed half-way
            return importlib.import_module(library.module)
    except ImportError as error:
        reason = "" if error.name == library.name else f" completely ({error})"
        raise MissingExtraError(
            f"{library.name} is not installed{reason}; pip install 'robustsabn[{library.name}]'"
        ) from error


@contextmanager
def _zero_gradients() -> Iterator[None]:
    """Provide, inside the block, a function that advertorch 0.2.3 imports and torch 1.9 removed."""
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
    """Names of the constructor's parameters, with those of the base class if it takes **kwargs."""
    names: set[str] = set()
    for base in cls.__mro__[:-1]:
        if "__init__" in vars(base):
            parameters = [*inspect.signature(base.__init__).parameters.values()][1:]  # type: ignore[misc]
            names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return names


def _norm_of(library: Library, cls: Any) -> str | None:
    """The norm that a class is made for; None if the norm is a parameter or not known."""
    parameters = _parameters(cls)
    order = getattr(getattr(cls, "distance", None), "p", None)  # foolbox
    if order is not None or {"norm", "ord"} & parameters:
        return next((norm for norm, p in _ORDER.items() if p == order), None)
    match = re.search(r"L(inf|[012])(?![0-9])", cls.__name__, re.IGNORECASE)
    if match is not None:
        return f"L{match[1].lower()}"
    return "Linf" if library.name == "torchattacks" and "eps" in parameters else None
