"""What a result was computed with: date, processor, threads, versions; SHA-256 of weights and images."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from robustsabn import __version__

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["computed_with", "file_sha256", "labelled", "processor", "tensors_sha256"]

_LABELS = {
    "data_sha256": "SHA-256 of the data",
    "weights_sha256": "SHA-256 of the weights",
    "python": "Python",
}


def computed_with(device: torch.device | str | None = None) -> dict[str, str]:
    """Date in UTC, device, CPU threads and versions of this process; without a device, its processor."""
    import torch

    where = torch.device("cpu" if device is None else device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else processor()
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "device": f"{where.type}: {name}",
        "threads": str(torch.get_num_threads()),
        "robustsabn": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The name of the processor, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, types, shapes and bytes of tensors, in the order of their names."""
    import torch

    state = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().to("cpu").contiguous().flatten()
        state.update(plain.view(torch.uint8).numpy().data)
    return state.hexdigest()


def file_sha256(file: str | Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with Path(file).open("rb") as stream:
        state = hashlib.sha256()
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def labelled(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Facts with their keys in words, for a page."""
    return [(_LABELS.get(key, key.replace("_", " ")), value) for key, value in facts.items() if value]
