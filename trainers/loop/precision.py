"""The precision of float32 on GPUs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["tensor_float32"]


@contextlib.contextmanager
def tensor_float32(allowed: bool) -> Iterator[None]:
    """Set whether float32 matrix products and convolutions on GPUs may use TF32 inside the block."""
    switches: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    try:
        before = [switch.allow_tf32 for switch in switches]
    except RuntimeError:  # the caller used torch's newer settings: keep them
        yield
        return
    try:
        for switch in switches:
            switch.allow_tf32 = allowed
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
