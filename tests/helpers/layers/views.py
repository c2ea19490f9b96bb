"""Views of every kind, and memory that holds NaN wherever nothing was written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def _steps(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return tuple(2 * n if i == dim else n for i, n in enumerate(shape))


def _crop(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    x = torch.randn(*shape[:2], *(n + 2 for n in shape[2:]), dtype=dtype)
    for dim in range(2, len(shape)):
        x = x.narrow(dim, 1, shape[dim])
    return x


def _expanded(dim: int) -> Callable[[tuple[int, ...], torch.dtype], Tensor]:
    def make(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn(*(1 if i == dim else n for i, n in enumerate(shape)), dtype=dtype).expand(shape)

    return make


def _channels_last(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape[0], *shape[2:], shape[1], dtype=dtype).movedim(-1, 1)


def _overlapping(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Images that are windows of one signal, each two values after the former."""
    size = torch.Size(shape[1:]).numel()
    windows: Tensor = torch.randn(2 * shape[0] + size, dtype=dtype).unfold(0, size, 2)
    return windows[: shape[0]].view(shape)


VIEWS: dict[str, Callable[[tuple[int, ...], torch.dtype], Tensor]] = {
    "dense": lambda shape, dtype: torch.randn(shape, dtype=dtype),
    "channels_last": _channels_last,
    "slice of channels": lambda shape, dtype: torch.randn(_steps(shape, 1), dtype=dtype)[:, 1 : shape[1] + 1],
    "chunk of channels": lambda shape, dtype: torch.randn(_steps(shape, 1), dtype=dtype).chunk(2, 1)[1],
    "every second channel": lambda shape, dtype: torch.randn(_steps(shape, 1), dtype=dtype)[:, ::2],
    "slice of channels_last": lambda shape, dtype: _channels_last(_steps(shape, 1), dtype)[:, : shape[1]],
    "every second image": lambda shape, dtype: torch.randn(_steps(shape, 0), dtype=dtype)[::2],
    "later images": lambda shape, dtype: torch.randn(_steps(shape, 0), dtype=dtype)[shape[0] :],
    "crop": _crop,
    "batch last": lambda shape, dtype: torch.randn(*shape[1:], shape[0], dtype=dtype).movedim(-1, 0),
    "transposed ends": lambda shape, dtype: torch.randn(
        *shape[:-2], shape[-1], shape[-2], dtype=dtype
    ).transpose(-1, -2),
    "one image for all": _expanded(0),
    "one channel for all": _expanded(1),
    "one value for all positions": _expanded(-1),
    "overlapping": _overlapping,
}


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Everything that torch allocates without writing it holds NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        junk = [torch.full((n,), torch.nan) for n in (4, 8, 16, 64, 256, 1024) for _ in range(8)]
        del junk
        yield
    finally:
        torch.use_deterministic_algorithms(before)
