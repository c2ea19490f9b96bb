"""Cross-entropy of clean images, of adversarial ones, and of both."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from robustsabn.trainers.methods.base import Bench, Crafting, Forward, Losses, Method, both, score
from robustsabn.trainers.methods.registry import method

__all__ = ["Paired", "Pgd", "Standard"]


@method("standard")
@dataclass(frozen=True)
class Standard(Method):
    """Cross-entropy of clean images through the clean route: CE(f(x), y)."""

    trains: ClassVar[Literal["clean", "adv"] | None] = "clean"
    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        clean = score("clean", bench.forward(x, bench.clean), y, bench.smoothing)
        return {"loss": clean["clean_loss"], **clean}


@method("pgd")
@dataclass(frozen=True)
class Pgd(Crafting):
    """Cross-entropy of adversarial images through the adversarial route: CE(f(x'), y).

    x' is made by 10 steps of PGD. Madry et al., ICLR 2018; 10 steps: Rice et al., ICML 2020.
    """

    trains: ClassVar[Literal["clean", "adv"] | None] = "adv"
    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        adv = score("adv", bench.forward(x_adv, bench.adv), y, bench.smoothing)
        return {"loss": adv["adv_loss"], **adv}


@method("paired")
@dataclass(frozen=True)
class Paired(Crafting):
    """Clean and adversarial images, each through its route: (CE(f_clean(x), y) + CE(f_adv(x'), y)) / 2.

    x' is made by 7 steps of PGD. `forward: split` sends both halves through the network in one forward pass;
    `separate` uses two, as the published code does. They differ if routes share statistics: those of the
    mixed batch, or of each half in turn. Xie et al., CVPR 2020; Gong et al., WACV 2022.
    """

    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    forward: Forward = "split"
    """Clean and adversarial images in one pass, or in one each."""

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        return bench.attack(x, y, steps=7)

    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        z_clean, z_adv = both(bench, x, x_adv, self.forward)
        clean, adv = (score(k, z, y, bench.smoothing) for k, z in (("clean", z_clean), ("adv", z_adv)))
        return {"loss": (clean["clean_loss"] + adv["adv_loss"]) / 2, **clean, **adv}
