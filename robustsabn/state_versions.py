"""State dicts in safetensors files, with the module versions that torch keeps beside the tensors."""

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
    """The module versions of `state` as metadata of a safetensors file; None for a plain dict of tensors."""
    known: Mapping[str, Any] = getattr(state, "_metadata", None) or {}
    versions = {name: about["version"] for name, about in known.items() if "version" in about}
    return {_KEY: json.dumps(versions)} if versions else None


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, with the versions that `version_notes` stored in it.

    Raises what safetensors raises, and ValueError if the versions are not a JSON object of numbers.
    """
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        text = (opened.metadata() or {}).get(_KEY)
    if text is None:
        return tensors
    try:
        versions = json.loads(text)
    except RecursionError:
        versions = None
    if not isinstance(versions, dict) or not all(isinstance(version, int) for version in versions.values()):
        raise ValueError(f"{_KEY} in its metadata is not an object of numbers")
    return versioned(tensors, {name: {"version": version} for name, version in versions.items()})


def versioned(state: Mapping[str, Tensor], known: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """A state dict of the tensors in `state`, with the metadata `known` by module, in the form of torch."""
    made = OrderedDict(state)
    if known is not None:
        made._metadata = OrderedDict(known)  # type: ignore[attr-defined]
    return made


def load_state(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> Any:
    """`model.load_state_dict(state, strict)`.

    If `state` has no versions but a module needs one, the current versions are assumed.
    """
    try:
        return model.load_state_dict(state, strict=strict)
    except Exception:
        if getattr(state, "_metadata", None) is not None:
            raise
        present = getattr(model.state_dict(), "_metadata", None)
        return model.load_state_dict(versioned(state, present), strict=strict)
