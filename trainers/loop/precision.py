"""How exact float32 is on GPUs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["tensor_float32"]


@contextlib.contextmanager
def tensor_float32(allowed: bool) -> Iterator[None]:
    """Whether products and convolutions of float32 may use TF32 inside the block, on GPUs that have it."""
    switches: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    try:
        before = [switch.allow_tf32 for switch in switches]
    except RuntimeError:  # the caller has set precisions through torch's newer switches: theirs hold
        yield
        return
    try:
        for switch in switches:
            switch.allow_tf32 = allowed
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
