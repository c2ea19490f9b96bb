"""Identity of an evaluation as plain values: only the same evaluation may continue a journal."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks.autoattack.verdicts import Finished
from robustsabn.attacks.autoattack.versions import described
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.search.base import Search
from robustsabn.attacks.threat import ThreatModel

__all__ = ["FORMAT", "difference", "identity_of"]

FORMAT = [2, *(entry.name for entry in fields(Finished))]
"""Format of journals: a version and the fields of a record. A journal of another format is refused."""

_SETTINGS = ("version", "norm", "eps", "bounds", "seed")
_CONTENTS = {
    "ids": "other numbers of the images (--n, --data)",
    "images": "other images (--data)",
    "labels": "other labels (--data)",
    "radii": "other radii of the images",
    "weights": "other weights (--model, --weights, --route)",
}


def identity_of(
    version: str,
    threat: ThreatModel,
    seed: int,
    attacks: Sequence[Search[Any]],
    options: Mapping[str, bool],
    model: Model,
    x: Tensor,
    y: Tensor,
    ids: Tensor,
) -> dict[str, Any]:
    """All that the verdicts depend on, as JSON values; tensors by a hash of their contents.

    `options` are those of the search. `weights` is "unknown" for a model that is a plain function.
    """
    radii = threat.eps
    return {
        "format": FORMAT,
        "version": version,
        "norm": threat.norm,
        "eps": threat.eps_max,
        "bounds": list(threat.bounds),
        "seed": seed,
        "n": len(x),
        "attacks": [described(attack) for attack in attacks],
        "options": dict(options),
        "ids": _digest(ids),
        "images": _digest(x),
        "labels": _digest(y),
        "radii": _digest(radii) if isinstance(radii, Tensor) else "one for all",
        "weights": _weights(model),
    }


def difference(before: object, now: Mapping[str, Any]) -> str | None:
    """How the evaluation `before` differs from `now`, in words that follow "it"; None if it does not."""
    if not isinstance(before, dict) or before.get("format") != FORMAT:
        return "was written by another version of robustsabn, whose journals this version cannot continue"
    for name in _SETTINGS:
        if before.get(name) != now[name]:
            return f"was started with {name} {before.get(name)}, but now {name} is {now[name]}"
    if before.get("n") != now["n"]:
        return f"was started with {before.get('n')} images (--n, --data), but now there are {now['n']}"
    for name, words in _CONTENTS.items():
        if before.get(name) != now[name]:
            return f"was started with {words}"
    for name, value in now["options"].items():
        if before.get("options", {}).get(name) != value:
            return (
                f"was started {'without' if value else 'with'} {name}, but now it is "
                f"{'on' if value else 'off'}"
            )
    return _other_attacks(before.get("attacks", []), now["attacks"])


def _other_attacks(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> str | None:
    earlier, current = ([str(attack.get("name")) for attack in attacks] for attacks in (before, now))
    if earlier != current:
        return f"was started with the attacks {', '.join(earlier)}, but now they are {', '.join(current)}"
    for old, new in zip(before, now, strict=True):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return (
                    f"was started with {key} {old.get(key)} of {new['name']}, but now {key} is {new.get(key)}"
                )
    return None


def _digest(*tensors: Tensor) -> str:
    """A hash of the exact contents of tensors."""
    state = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        state.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def _weights(model: Model) -> str:
    if not isinstance(model, nn.Module):
        return "unknown"
    return _digest(
        *(value for value in model.state_dict().values() if isinstance(value, Tensor) and value.numel())
    )
