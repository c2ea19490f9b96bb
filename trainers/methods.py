"""Training methods: what is lost on one batch.

A method is a frozen dataclass of its hyperparameters with one function, `losses(bench, x, y)`, registered by name. The
bench lends it the attack, the forward through each route, and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.routing import Selection, Split

__all__ = ["METHODS", "Bench", "Losses", "Method", "Paired", "Pgd", "Standard", "method"]

Losses = dict[str, Tensor]
"""`loss` to be minimised, and what else is to be logged: scalars, means over the batch."""


class Bench(Protocol):
    """What a method works with during one step. Without routes in the model, selections make no difference."""

    @property
    def clean(self) -> str | int:
        """The route of clean images: the first."""
        ...

    @property
    def adv(self) -> str | int:
        """The route of adversarial images: the last."""
        ...

    def attack(self, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images for this step, made through the adversarial route."""
        ...

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Logits in float32, with gradients that are averaged over the processes."""
        ...


class Method(Protocol):
    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        """`x` (N, C, H, W) in [0, 1], `y` (N,)."""
        ...


METHODS: dict[str, type] = {}
M = TypeVar("M", bound=type)


def method(name: str) -> Callable[[M], M]:
    """Class decorator: make a method known to configurations as `name`."""

    def register(cls: M) -> M:
        METHODS[name] = cls
        return cls

    return register


@method("standard")
@dataclass(frozen=True)
class Standard:
    """Cross-entropy of clean images through the clean route: CE(f(x), y)."""

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        clean = _score("clean", bench.forward(x, bench.clean), y)
        return {"loss": clean["clean_loss"], **clean}


@method("pgd")
@dataclass(frozen=True)
class Pgd:
    """Cross-entropy of adversarial images through the adversarial route: CE(f(x'), y). Madry et al., ICLR 2018."""

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        adv = _score("adv", bench.forward(bench.attack(x, y), bench.adv), y)
        return {"loss": adv["adv_loss"], **adv}


@method("paired")
@dataclass(frozen=True)
class Paired:
    """Every image clean and adversarial, each through its route: (CE(f_clean(x), y) + CE(f_adv(x'), y)) / 2.

    `forward: split` sends both halves through the network at once; `separate` makes two forwards, as the published code.
    They differ where routes share statistics: of the mixed batch, or of each half in turn.
    Xie et al., CVPR 2020; Gong et al., WACV 2022.
    """

    forward: Literal["split", "separate"] = "split"

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        x_adv = bench.attack(x, y)
        if self.forward == "split" and bench.clean != bench.adv:
            halves = Split((bench.clean, len(x)), (bench.adv, len(x)))
            z_clean, z_adv = bench.forward(torch.cat([x, x_adv]), halves).chunk(2)
        else:
            z_clean, z_adv = bench.forward(x, bench.clean), bench.forward(x_adv, bench.adv)
        clean, adv = _score("clean", z_clean, y), _score("adv", z_adv, y)
        return {"loss": (clean["clean_loss"] + adv["adv_loss"]) / 2, **clean, **adv}


def _score(kind: str, logits: Tensor, y: Tensor) -> Losses:
    accuracy = (logits.detach().argmax(1) == y).float().mean()
    return {f"{kind}_loss": F.cross_entropy(logits, y), f"{kind}_accuracy": accuracy}
