"""The named sets of attacks."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from robustsabn.attacks.search.apgd import APGD, APGDT
from robustsabn.attacks.search.apgd_focused import FocusedAPGDT
from robustsabn.attacks.search.base import Search
from robustsabn.attacks.search.fab import FAB, FABT
from robustsabn.attacks.search.square import Square
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError
from robustsabn.text import quote

__all__ = ["VERSIONS", "attacks_of", "described"]

VERSIONS = ("standard", "plus", "rand", "fast", "custom")

# the settings that the authors' code uses for attacks in a custom list
_CUSTOM: dict[str, Callable[[ThreatModel, int], Search[Any]]] = {
    "apgd-ce": lambda threat, seed: APGD(threat, restarts=5, seed=seed),
    "apgd-dlr": lambda threat, seed: APGD(threat, loss="dlr", restarts=5, seed=seed),
    "apgd-t": lambda threat, seed: APGDT(threat, seed=seed),
    "fab": lambda threat, seed: FAB(threat, restarts=5, seed=seed),
    "fab-t": lambda threat, seed: FABT(threat, seed=seed),
    "square": lambda threat, seed: Square(threat, seed=seed),
}


def attacks_of(
    version: str, threat: ThreatModel, seed: int = 0, custom: Sequence[str | Search[Any]] | None = None
) -> list[Search[Any]]:
    """The attacks of a version, in order; `custom` lists names or attacks and needs version "custom".

    Raises InputError for an unknown version or name, for version "custom" without a list and a list with
    another version, and for an attack that was made for another threat model. Source: Croce and Hein,
    "Reliable evaluation of adversarial robustness", ICML 2020, section 6."""
    if not isinstance(version, str) or version not in VERSIONS:
        raise InputError(f"version is {quote(version)}; allowed are {', '.join(VERSIONS)}")
    if custom is not None and (isinstance(custom, (str, bytes)) or not isinstance(custom, Sequence)):
        raise InputError(f"attacks are {quote(custom)}; give a list of names, such as ['apgd-ce', 'square']")
    if (version == "custom") != bool(custom):
        raise InputError('give a list of attacks together with version="custom", and with no other version')
    if version == "standard":
        wide = threat.norm == "L1"
        return [
            APGD(threat, restarts=5 if wide else 1, large_eps=wide, seed=seed),
            APGDT(threat, targets=5 if wide else 9, large_eps=wide, seed=seed),
            FABT(threat, seed=seed),
            Square(threat, seed=seed),
        ]
    if version == "rand":
        return [APGD(threat, loss=loss, eot=20, seed=seed) for loss in ("ce", "dlr")]
    if version == "fast":
        first: list[Search[Any]] = [
            APGD(threat, steps=20, seed=seed),
            FocusedAPGDT(threat, steps=15, most=2, long=60, seed=seed),
            FABT(threat, targets=3, steps=20, seed=seed),
        ]
        if threat.norm == "L1":  # restarts and larger radii find more here than targets
            first = [
                APGD(threat, steps=50, restarts=5, large_eps=True, seed=seed),
                APGDT(threat, targets=2, steps=70, large_eps=True, seed=seed),
            ]
        return [*first, Square(threat, steps=50, seed=seed)]
    names = ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
    chosen: list[Search[Any]] = []
    for entry in custom or names:
        if isinstance(entry, str):
            if entry not in _CUSTOM:
                raise InputError(f"attack {quote(entry)} is unknown; allowed are {', '.join(_CUSTOM)}")
            chosen.append(_CUSTOM[entry](threat, seed))
        elif not isinstance(entry, Search):
            raise InputError(
                f"attack {type(entry).__name__} cannot be part of AutoAttack; give {', '.join(_CUSTOM)}, or "
                "an attack such as APGD(threat); call PGD and FGSM by themselves"
            )
        else:
            _check_same(entry, threat)
            chosen.append(entry)
    if len({attack.name for attack in chosen}) != len(chosen):
        raise InputError("an attack is listed twice; list each once, with more restarts")
    return chosen


def _check_same(attack: Search[Any], threat: ThreatModel) -> None:
    own = attack.threat
    if (own.norm, *own.bounds) == (threat.norm, *threat.bounds):
        mine, theirs = (torch.as_tensor(one.eps).double().cpu() for one in (own, threat))
        if torch.equal(mine, theirs):
            return
    raise InputError(
        f"attack {attack.name} was made for {_words(own)}, but the evaluation is for {_words(threat)}; give "
        "both the same ThreatModel"
    )


def _words(threat: ThreatModel) -> str:
    eps = f"{threat.eps_max:g}"
    if isinstance(threat.eps, torch.Tensor):
        eps = f"{threat.eps.numel()} radii of at most {eps}"
    return f"{threat.norm} with eps {eps} and bounds {tuple(threat.bounds)}"


def described(attack: Search[Any]) -> dict[str, Any]:
    """Name and settings of an attack as plain values: all that its result depends on but the threat model."""
    settings = {
        name: value for name, value in vars(attack).items() if not name.startswith("_") and name != "threat"
    }
    return {"name": attack.name, "class": _plain(type(attack))} | {
        name: _plain(value) for name, value in settings.items()
    }


def _plain(value: object) -> object:
    """The value in a form that is the same in every process: functions by name, no memory addresses."""
    if isinstance(value, (str, int, float, bool, list)):
        return value
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
