"""Adversarial weight perturbation (AWP), for methods that craft images first."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustsabn.trainers.methods.base import Bench, Crafting, Losses
from robustsabn.trainers.methods.plain import Paired, Pgd
from robustsabn.trainers.methods.registry import check, method
from robustsabn.trainers.methods.trades import Mart, Trades

__all__ = ["Awp", "MartAwp", "PairedAwp", "PgdAwp", "TradesAwp"]


@dataclass(frozen=True)
class Awp(Crafting):
    """The loss of a method at the perturbed weights w + gamma ||w_l|| g_l / ||g_l||, per layer l.

    g is the gradient of the same loss on the same whole batch. Only weights of convolutions, linear layers
    and attention are perturbed. The optimiser steps from the original weights; the published code steps from
    the perturbed ones and subtracts the perturbation, which differs by its weight decay. The first
    `warmup_epochs` epochs have no perturbation. Wu et al., NeurIPS 2020, equations 8 to 10.
    """

    whole_batch: ClassVar[bool] = True

    gamma: float = 0.01
    """Size of the weight perturbation, as a share of each layer's norm."""
    warmup_epochs: int = 0
    """Epochs before weights are perturbed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.gamma > 0, f"gamma must be positive, got {self.gamma:g}")
        check(self.warmup_epochs >= 0, f"warmup_epochs must be at least 0, got {self.warmup_epochs}")

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        x_adv = self.craft(bench, x, y)
        if bench.epoch >= self.warmup_epochs:
            bench.perturb_weights(lambda: self.objective(bench, x, x_adv, y)["loss"], self.gamma)
        return self.objective(bench, x, x_adv, y)


@method("pgd-awp")
@dataclass(frozen=True)
class PgdAwp(Awp, Pgd):
    """`pgd` with adversarial weight perturbation: gamma 0.01 from the start, as published."""


@method("trades-awp")
@dataclass(frozen=True)
class TradesAwp(Awp, Trades):
    """`trades` with adversarial weight perturbation: gamma 0.005 after 10 epochs, as published."""

    gamma: float = 0.005
    warmup_epochs: int = 10


@method("mart-awp")
@dataclass(frozen=True)
class MartAwp(Awp, Mart):
    """`mart` with adversarial weight perturbation; unpublished, with the values of `trades-awp`."""

    gamma: float = 0.005
    warmup_epochs: int = 10


@method("paired-awp")
@dataclass(frozen=True)
class PairedAwp(Awp, Paired):
    """`paired` with adversarial weight perturbation; unpublished, with the values of `pgd-awp`."""
