"""State dicts in safetensors files, with the versions of modules that torch keeps beside the tensors."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["load_state", "read_state", "version_notes", "versioned"]

_KEY = "state_dict_versions"


def version_notes(state: Mapping[str, Tensor]) -> dict[str, str] | None:
    """What a safetensors file says in its metadata of the versions in `state`; None for a plain dict of tensors."""
    known: Mapping[str, Any] = getattr(state, "_metadata", None) or {}
    found = {name: about["version"] for name, about in known.items() if "version" in about}
    return {_KEY: json.dumps(found)} if found else None


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, with the versions that `version_notes` left in it.

    Raises what safetensors raises, and ValueError where the versions are no object of numbers.
    """
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        text = (opened.metadata() or {}).get(_KEY)
    if text is None:
        return tensors
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(version, int) for version in found.values()):
        raise ValueError(f"{_KEY} in its metadata is no object of numbers")
    return versioned(tensors, {name: {"version": version} for name, version in found.items()})


def versioned(state: Mapping[str, Tensor], known: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """A state dict of the tensors in `state`, and of the versions `known` by module, as torch makes them."""
    made = OrderedDict(state)
    if known is not None:
        made._metadata = OrderedDict(known)  # type: ignore[attr-defined]
    return made


def load_state(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> Any:
    """`model.load_state_dict(state, strict)`.

    Where `state` says nothing of versions and a module insists, it is taken to be of the present ones.
    """
    try:
        return model.load_state_dict(state, strict=strict)
    except Exception:
        if getattr(state, "_metadata", None) is not None:
            raise
        present = getattr(model.state_dict(), "_metadata", None)
        return model.load_state_dict(versioned(state, present), strict=strict)
