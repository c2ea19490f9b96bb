"""Weight files; code that they may contain is never run."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from robustsabn.arguments import a_module
from robustsabn.errors import ModelError
from robustsabn.models.head import head_of, other_head
from robustsabn.paths import given_path
from robustsabn.state_versions import load_state, read_state, versioned
from robustsabn.text import one_line, quote, shorten

__all__ = ["fill", "load_weights", "read_torch", "read_weights"]

_TORCH = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "model.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors`, `.pt`, `.pth` or `.th` file, on the CPU.

    Torch files are read with `weights_only=True`; the state dict may be an entry "state_dict" or "model".
    Raises ModelError if the file is missing, damaged, of another kind, or holds code.
    """
    path = given_path(path, "the weight file", ModelError)
    if not path.is_file():
        raise ModelError(f"no such weight file: {path}; give the path of a .safetensors or torch file")
    if path.suffix == ".safetensors":
        try:
            return read_state(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(
                f"{path} is not a readable safetensors file; copy or save it again: {one_line(error)}"
            ) from error
    if path.suffix not in _TORCH:
        raise ModelError(f"{path}: weights must end in .safetensors, {', '.join(_TORCH)}")
    return _state_dict(path, read_torch(path))


def read_torch(path: Path) -> Any:
    """What a torch file holds, on the CPU; ModelError where it is damaged or would run code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters ends in an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "weights only" not in str(error).lower():
            raise ModelError(
                f"{path} is not a torch file, or is damaged; save it again: {one_line(error)}"
            ) from error
        raise ModelError(
            f"{path} holds pickled code, which is not run; "
            "save only the weights: torch.save(model.state_dict(), path) or a .safetensors file"
        ) from error
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise ModelError(
            f"{path} is not a torch file, or is damaged; save it again: {one_line(error)}"
        ) from error


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    for _ in range(2):
        wrapper = next((k for k in _WRAPPERS if isinstance(content, Mapping) and k in content), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(
            f"{path} holds {type(content).__name__}, not a state dict, directly or in "
            f"{', '.join(_WRAPPERS)}; save model.state_dict()"
        )
    other = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise ModelError(
            f"{path} is not a state dict: {quote(other[0])} is not a tensor, and there is no entry "
            f"{', '.join(_WRAPPERS)}; save model.state_dict()"
        )
    tensors = {str(key): value for key, value in content.items()}
    return versioned(tensors, getattr(content, "_metadata", None))


def load_weights(model: nn.Module, path: str | Path, *, fresh_head: int | None = None) -> nn.Module:
    """Load the weights in the file `path` into `model`, strictly, and return the model.

    A prefix `module.`, `model.` or `_orig_mod.` of all keys is removed if no key fits with it. If none fits
    then, and `model` is a wrapper without parameters, such as Sequential(Normalize(...), network), they are
    those of the network in it. With `fresh_head`, the number of classes, the last layer is not loaded. Raises
    ModelError as `read_weights` does, and if names or shapes differ."""
    return fill(model, read_weights(path), path, fresh_head=fresh_head)


def fill(
    model: nn.Module, state: dict[str, Tensor], path: str | Path, *, fresh_head: int | None = None
) -> nn.Module:
    """As `load_weights`, with the contents of `path` as `state`."""
    a_module("the model", model, ModelError)
    if not state:
        raise ModelError(f"{path} holds no tensors; save the weights again")
    wanted = model.state_dict().keys()
    while not wanted & state.keys():
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = _without(prefix, state)
    inner = None if wanted & state.keys() else _inner(model)
    if inner is not None and inner.state_dict().keys() & state.keys():
        fill(inner, state, path, fresh_head=fresh_head)
        return model
    other = other_head(model, state)
    skipped = [] if fresh_head is None else other[0] if other else head_of(model, fresh_head)
    if other and fresh_head is None:
        raise ModelError(
            f"{path} does not fit the network: it has {other[1]} classes, the network {other[2]}; train "
            f"with fresh_head=true for a new last layer ({', '.join(other[0])}), or build the network for "
            f"{other[1]} classes (autoattack: --num-classes {other[1]})"
        )
    kept = versioned({k: v for k, v in state.items() if k not in skipped}, getattr(state, "_metadata", None))
    try:
        missing, unexpected = load_state(model, kept, strict=False)
    except Exception as error:  # modules of the user may raise anything
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        raise _misfit(path, shorten((lines[1] if len(lines) > 1 else lines[0]).rstrip("."), 160)) from error
    missing = [key for key in missing if key not in skipped]
    if missing or unexpected:
        problems = [
            _first(label, keys) for label, keys in (("missing", missing), ("unexpected", unexpected)) if keys
        ]
        raise _misfit(path, "; ".join(problems))
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    """The child of `model` that has all its parameters, if there is one."""
    holders = [child for child in model.children() if any(True for _ in child.parameters())]
    own = any(True for _ in model.parameters(recurse=False))
    return holders[0] if len(holders) == 1 and not own else None


def _without(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    known = getattr(state, "_metadata", None)
    if known is not None:  # by module: "module.conv" becomes "conv", "module" the root
        known = {
            name.removeprefix(prefix.rstrip(".")).lstrip("."): about for name, about in known.items() if name
        }
    return versioned({key.removeprefix(prefix): value for key, value in state.items()}, known)


def _misfit(path: str | Path, problem: str) -> ModelError:
    return ModelError(
        f"{path} does not fit the network: {problem}; give weights of this architecture and number of classes"
    )


def _first(label: str, keys: list[str]) -> str:
    return f"{len(keys)} {label}, the first is {keys[0]}"
