"""Random numbers without state: each draw depends only on (seed, purpose, index), so resuming is exact."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["derive", "epoch_order", "generator", "restored"]


def derive(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed that depends on all arguments."""
    text = ":".join((str(seed), purpose, *map(str, index)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(device: torch.device | str, seed: int, purpose: str, *index: int) -> torch.Generator:
    """A fresh generator on `device`, seeded by the remaining arguments."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, *index))


def epoch_order(n: int, seed: int, epoch: int, purpose: str = "order") -> Tensor:
    """The permutation of 0 … n - 1 in which one epoch visits the training set, (n,) int64.

    A different `purpose` gives a different permutation.
    """
    return torch.randperm(n, generator=generator("cpu", seed, purpose, epoch))


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore torch's global generators, on the CPU and all CUDA devices in use, after the block."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count() if used else 0)
    with torch.random.fork_rng(devices):
        yield
