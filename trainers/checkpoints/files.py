"""Checkpoints: folders of safetensors and one JSON, complete or absent, never unpickled.

    state.json           step, configuration, versions, best score, SHA-256 of the other files and of itself
    model.safetensors    optimizer.safetensors    …

A checkpoint is written under a temporary name, flushed to disk and renamed.
The old `last` becomes `previous`.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import robustsabn
from robustsabn.errors import CheckpointError
from robustsabn.files import ASIDE, flush, replacing, write_text, writing
from robustsabn.state_versions import read_state, version_notes
from robustsabn.text import quote

__all__ = [
    "FORMAT",
    "Checkpoint",
    "clear",
    "optimizer_tensors",
    "read",
    "read_facts",
    "read_newest",
    "restore_optimizer",
    "set_aside",
    "write",
]

FORMAT = 1
_FILE = re.compile(r"\w[\w-]*\.safetensors", re.ASCII)
_REMEDY = "; restore it from a copy or take another checkpoint"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Named sets of tensors (`model`, `optimizer`, …), one file each, and a state for JSON."""

    tensors: dict[str, Tensors]
    state: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint, names: tuple[str, ...] = ("last",)) -> None:
    """Save `checkpoint` in `folder` under each of `names`; old ones stay until the new ones are complete.

    Raises WriteError if the disk is full or not writable; no incomplete file remains then.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _clean(folder)
        try:
            first = _fresh(folder)
            _fill(first, checkpoint)
            copies = [_copy(first, folder) for _ in names[1:]]
            # a resumed run starts from the first name, so it is renamed last
            for name, ready in zip(reversed(names), [*copies, first], strict=True):
                _publish(ready, folder / name, _before(folder, name))
        finally:
            _clean(folder)


def read(folder: Path, name: str = "best") -> Checkpoint:
    """Read and verify the checkpoint `folder/name`.

    Raises CheckpointError, in one line that names the file, if it is missing, truncated or altered.
    """
    place = _place(folder, name)
    state = read_facts(folder, name)
    files: dict[str, str] = state["files"]
    return Checkpoint(
        {name.partition(".")[0]: _load(place / name, sha) for name, sha in files.items()}, state
    )


def read_facts(folder: Path, name: str) -> dict[str, Any]:
    """Read and verify the state of the checkpoint `folder/name`, without its tensors. Raises as `read`."""
    place = _place(folder, name)
    if not place.is_dir():
        available = sorted(p.name for p in folder.glob("[!.]*") if p.is_dir())
        raise CheckpointError(
            f"{folder / name}: no such checkpoint; there are: {', '.join(available) or 'none'}"
        )
    file = place / "state.json"
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        unaltered = state.pop("sha256") == _digest(state)
        version = state["format"]
        valid_names = all(
            _FILE.fullmatch(name) and isinstance(sha, str) for name, sha in state["files"].items()
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(f"{file} is missing or truncated{_REMEDY}") from None
    if not unaltered:
        raise CheckpointError(f"{file} was altered after it was written{_REMEDY}")
    if version != FORMAT:
        raise CheckpointError(f"{file} has format {quote(version)}, this version reads {FORMAT}")
    if not valid_names:
        raise CheckpointError(f"{file} names files that are not those of a checkpoint{_REMEDY}")
    facts: dict[str, Any] = state
    return facts


def _place(folder: Path, name: str) -> Path:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise CheckpointError(
            f"no checkpoint is called {quote(name)}; names are letters, digits, - and _, such as best or last"
        )
    place = folder / name
    if not place.is_dir() and name != "last":  # killed between the two renames
        return _before(folder, name)
    return place


def read_newest(folder: Path) -> tuple[Checkpoint, str | None]:
    """The checkpoint to resume from, `last` or else `previous`, and why `last` could not be read."""
    try:
        return read(folder, "last"), None
    except CheckpointError as error:
        try:
            return read(folder, "previous"), str(error)
        except CheckpointError as second:
            if not (folder / "previous").is_dir():
                raise error from None
            raise CheckpointError(f"{error}; {second}; start again with another out=") from None


def clear(folder: Path) -> None:
    """Remove the checkpoints in `folder`."""
    if folder.is_dir():
        shutil.rmtree(folder)


def set_aside(folder: Path, name: str) -> None:
    """Rename a damaged checkpoint to `damaged-NAME`, so that it never replaces an intact one."""
    if (folder / name).is_dir():
        aside = folder / f"damaged-{name}"
        shutil.rmtree(aside, ignore_errors=True)
        (folder / name).rename(aside)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The tensors of an optimiser's state, with keys such as "3.momentum_buffer" for parameter 3."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Load tensors from `optimizer_tensors` into `optimizer`; its hyperparameters stay.

    Raises ValueError if the tensors do not fit its parameters.
    """
    state: dict[int, Tensors] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        if int(index) not in range(len(parameters)):
            raise ValueError(f"{name} belongs to no parameter of the optimiser")
        parameter = parameters[int(index)]
        if value.ndim > 1 and value.numel() == parameter.numel():
            value = value.view_as(parameter)  # earlier versions stored route tables in two dimensions
        if value.shape not in (parameter.shape, ()):
            raise ValueError(
                f"{name} is of shape {tuple(value.shape)}, its parameter of {tuple(parameter.shape)}"
            )
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _fill(place: Path, checkpoint: Checkpoint) -> None:
    files = {}
    for name, tensors in checkpoint.tensors.items():
        file = place / f"{name}.safetensors"
        # copies, because safetensors stores no shared memory; loading restores the sharing
        copies = {key: t.detach().to("cpu", copy=True).contiguous() for key, t in tensors.items()}
        with replacing(file) as aside:
            save_file(copies, aside, version_notes(tensors))
        files[file.name] = _sha256(file)
    state = {**checkpoint.state, "format": FORMAT, "versions": _versions(), "files": files}
    state["sha256"] = _digest(state)
    write_text(place / "state.json", json.dumps(state, indent=1) + "\n")


def _load(file: Path, sha: str) -> Tensors:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing{_REMEDY}")
    if _sha256(file) != sha:
        raise CheckpointError(
            f"{file} is truncated or was altered: its SHA-256 is not the one in state.json{_REMEDY}"
        )
    try:
        return read_state(file)
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise CheckpointError(f"{file} cannot be read: {error}{_REMEDY}") from None


def _publish(ready: Path, place: Path, before: Path) -> None:
    flush(ready)  # the files inside must be on disk before the rename
    if place.exists():
        shutil.rmtree(before, ignore_errors=True)
        place.rename(before)
    ready.rename(place)
    flush(place.parent)
    if before.name.startswith("."):
        shutil.rmtree(before, ignore_errors=True)


def _before(folder: Path, name: str) -> Path:
    """Where the old checkpoint goes while it is replaced; that of `last` stays as `previous`."""
    return folder / {"last": "previous"}.get(name, f".{name}-before")


def _fresh(folder: Path) -> Path:
    place = folder / f"{ASIDE}{uuid.uuid4().hex[:12]}"
    place.mkdir()
    return place


def _clean(folder: Path) -> None:
    """Remove incomplete checkpoints of this process or of one that was killed."""
    for place in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(place, ignore_errors=True)


def _copy(source: Path, folder: Path) -> Path:
    target = _fresh(folder)
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:  # a file system without links
            shutil.copyfile(file, target / file.name)
            flush(target / file.name)
    return target


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {
        "robustsabn": robustsabn.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
