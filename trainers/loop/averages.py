"""Averaged weights, which often classify better than the last ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from robustsabn.trainers.processes.distributed import average_over_processes, running_statistics

__all__ = ["Average", "Ema", "EmaStatistics", "Swa"]

EmaStatistics = Literal["live", "averaged", "standing"]
"""Running statistics of an EMA: those of the model, their own average, or a new estimate."""


class Average(ABC):
    """An average of the trained parameters, which can replace them in the model for a while."""

    words: ClassVar[str]

    def __init__(self, model: nn.Module) -> None:
        self.live: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values = {name: p.detach().clone() for name, p in self.live.items()}
        self.count = self.evaluated = 0

    @property
    def changed(self) -> bool:
        """Whether the average was updated since its last evaluation."""
        return self.count > self.evaluated

    @property
    def counts(self) -> dict[str, int]:
        """The counters to save with `values`."""
        return {"count": self.count, "evaluated": self.evaluated}

    @abstractmethod
    def update(self, step: int) -> None:
        """Update the average after training step `step`, counted from 0."""

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor] | None, counts: Mapping[str, int] | None = None) -> None:
        """Continue from stored `values` and `counts`, or start from the current weights of the model."""
        for name, value in self.values.items():
            value.copy_(
                self.live[name] if values is None else values[name].view_as(value)
            )  # earlier versions stored route tables as (R, C)
        kept = counts or {}
        self.count, self.evaluated = kept.get("count", 0), kept.get("evaluated", 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights into the model inside the block; restore its own weights afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _add(self, buffers: Mapping[str, Tensor]) -> None:
        self.live |= buffers
        self.values |= {name: buffer.clone() for name, buffer in buffers.items()}

    def _take(self, buffers: Mapping[str, Tensor]) -> None:
        for name, buffer in buffers.items():
            self.values[name].copy_(buffer)

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self.values.items():
            kept = value.clone()
            value.copy_(self.live[name])
            self.live[name].copy_(kept)


class Ema(Average):
    """Exponential moving average (EMA) of the trained parameters p: e <- d e + (1 - d) p.

    The decay is d = min(decay, (1 + t) / (10 + t)) where t counts updates from 0, so that early weights soon
    fade. `statistics` selects the running statistics: "live" are those of the model; "averaged" are an EMA
    too, of their mean over the processes; "standing" are estimated again inside `in_place`.
    """

    words = "averaged weights"

    def __init__(self, model: nn.Module, decay: float, statistics: EmaStatistics = "live") -> None:
        super().__init__(model)
        self.decay, self.weights = decay, tuple(self.live)
        own = {} if statistics == "live" else running_statistics(model)
        self.standing = statistics == "standing"
        # counters of batches are not averaged, only estimated again
        self.own = {name: b for name, b in own.items() if self.standing or b.is_floating_point()}
        self._add(self.own)

    @torch.no_grad()
    def update(self, step: int) -> None:
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, now = [self.values[name] for name in self.weights], [self.live[n] for n in self.weights]
        if not self.standing:
            averages += [self.values[name] for name in self.own]
            now += average_over_processes([*self.own.values()])
        torch._foreach_lerp_(averages, now, rate)  # pyright: ignore[reportPrivateImportUsage]
        self.count += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """As in `Average`.

        Statistics to be estimated start from those of the model if the weights are new.
        """
        if self.standing and self.changed:
            self._take(self.own)
        with super().in_place():
            yield


class Swa(Average):
    """Stochastic weight averaging: the equal mean of the trained parameters of several steps.

    It takes the parameters after every `stride` steps from step `start` on, and after the last step, `total`.
    The averaged weights have their own running statistics, to be estimated inside `in_place`. Izmailov et
    al., UAI 2018.
    """

    words = "weights averaged over epochs"

    def __init__(self, model: nn.Module, start: float, stride: int, total: int) -> None:
        super().__init__(model)
        self.weights = tuple(self.live)
        self.start, self.stride, self.total = start, stride, total
        self.statistics = running_statistics(model)
        self._add(self.statistics)

    @torch.no_grad()
    def update(self, step: int) -> None:
        done = step + 1
        if done < self.start or (done % self.stride and done != self.total):
            return
        self.count += 1
        for name in self.weights:
            self.values[name].lerp_(self.live[name], 1 / self.count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """As in `Average`.

        The running statistics start from those of the model if the weights are new.
        """
        if self.changed:
            self._take(self.statistics)
        with super().in_place():
            yield
