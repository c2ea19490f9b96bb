"""Optimisers, learning rates that depend only on the step, and the update of one optimiser."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from robustsabn.conversion.plain_norms import is_norm
from robustsabn.layers import RoutedNorm
from robustsabn.trainers.config import (
    Adam,
    AdamW,
    Cosine,
    Cyclic,
    InverseTime,
    MultiStep,
    OneCycle,
    Optim,
    Schedule,
    Sgd,
)
from robustsabn.trainers.processes.distributed import Network

__all__ = ["Update", "build_optimizer", "learning_rate", "set_learning_rate", "without_gradients"]


def build_optimizer(model: nn.Module, config: Optim, without: Iterable[nn.Parameter] = ()) -> Optimizer:
    """The optimiser over all trained parameters of `model`, except those in `without`."""
    others, weights = set(without), _weights(model)
    trained = [p for p in model.parameters() if p.requires_grad and p not in others]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if config.decay == "weights":
        groups = [
            {"params": [p for p in trained if p in weights]},
            {"params": [p for p in trained if p not in weights], "weight_decay": 0.0},
        ]
    if isinstance(config, Adam):
        return torch.optim.Adam(groups, config.lr, config.betas, weight_decay=config.weight_decay)
    if isinstance(config, AdamW):
        return torch.optim.AdamW(groups, config.lr, config.betas, weight_decay=config.weight_decay)
    assert isinstance(config, Sgd)
    return torch.optim.SGD(
        groups, config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
    )


class Update:
    """One optimiser of a run with its learning rate schedule."""

    def __init__(
        self,
        accelerator: Accelerator,
        optimizer: Optimizer,
        config: Optim,
        schedule: Schedule,
        networks: Mapping[str, Network],
    ) -> None:
        self.accelerator, self.optimizer = accelerator, optimizer
        self.config, self.schedule, self.networks = config, schedule, networks
        own = {p for group in optimizer.param_groups for p in group["params"]}
        everything = (p for network in networks.values() for p in network.raw.parameters())
        self.parameters = [p for p in everything if p in own]

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def __call__(self, step: int, total: int) -> dict[str, Tensor]:
        """Apply the gradients as step `step` (from 0) of `total`; returns scalars to log.

        Afterwards all gradients of all networks are cleared, so that those of one loss do not reach the next
        step.
        """
        set_learning_rate(self.optimizer, learning_rate(self.schedule, self.config.lr, step, total))
        logged = {}
        if self.config.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.clip)
            logged["gradient_norm"] = norm
        self.optimizer.step()
        for network in self.networks.values():
            network.raw.zero_grad()
        return logged


def learning_rate(schedule: Schedule, peak: float, step: int, total: int) -> float:
    """The learning rate of step `step` (from 0) of a run of `total` steps."""
    rate = peak * _factor(schedule, step, total)
    if step >= schedule.warmup_steps:
        return rate
    start = schedule.warmup_start
    return min(rate, peak * (start + (1 - start) * step / schedule.warmup_steps))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@contextmanager
def without_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside the block, the parameters get no gradients, but what is computed with them does."""
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _weights(model: nn.Module) -> set[nn.Parameter]:
    """Matrices and convolution kernels, without vectors and without affines of norms.

    Routed affines are tables (R, C), so the number of dimensions alone does not tell.
    """
    layers = [m for m in model.modules() if not isinstance(m, RoutedNorm) and not is_norm(m)]
    return {p for layer in layers for p in layer.parameters(recurse=False) if p.ndim > 1}


def _factor(schedule: Schedule, step: int, total: int) -> float:
    if isinstance(schedule, MultiStep):
        edges = [math.ceil(m * total - 1e-9) for m in schedule.milestones]
        return schedule.gamma ** bisect_right(edges, step)
    if isinstance(schedule, Cosine):
        return _cosine(1, schedule.final, step / total)
    if isinstance(schedule, OneCycle):
        last, top = max(total - 1, 1), schedule.peak * total - 1
        if step <= top:
            return _cosine(schedule.start, 1, step / top if top else 1)
        return _cosine(1, schedule.final, (step - top) / max(last - top, 1))
    if isinstance(schedule, Cyclic):
        top = schedule.peak * total
        return min(step / top, (total - step) / (total - top))
    if isinstance(schedule, InverseTime):
        return 1 / (1 + schedule.decay * step)
    return 1.0


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
