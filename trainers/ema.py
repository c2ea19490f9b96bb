"""Averaged weights, which often classify better than the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """Exponential moving average of the trained parameters p: e <- d e + (1 - d) p, with d = min(decay, (1 + t) / (10 + t)).

    t counts updates from 0, so that the first weights are soon forgotten. Running statistics are not averaged: at any
    moment the averaged network has those of the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after its step `step`, from 0."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, weights = list(self.values.values()), list(self.live.values())
        torch._foreach_lerp_(averages, weights, rate)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor] | None) -> None:
        """Go on from stored `values`, or begin at the model as it is."""
        for name, value in self.values.items():
            value.copy_(self.live[name] if values is None else values[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and exactly its own after it."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self.values.items():
            kept = value.clone()
            value.copy_(self.live[name])
            self.live[name].copy_(kept)
