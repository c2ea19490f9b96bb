"""Losses with a divergence between clean and adversarial predictions: TRADES and MART."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.attacks.losses import kl
from robustsabn.trainers.methods.base import Bench, Crafting, Forward, Losses, both, score
from robustsabn.trainers.methods.registry import check, method

__all__ = ["Mart", "Trades"]


@method("trades")
@dataclass(frozen=True)
class Trades(Crafting):
    """CE(f(x), y) + beta KL(p(x) || p(x')), where x' maximises the same KL from a normal start.

    The clean prediction is constant during the attack; the loss has gradients through both predictions.
    `forward` is as in `Paired`; the published code normalises each half in turn. Zhang et al., ICML 2019,
    equation 5; beta and 10 steps are those of the published CIFAR-10 runs.
    """

    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    beta: float = 6.0
    """Weight of the divergence."""
    forward: Forward = "separate"
    """Clean and adversarial images in one pass, or in one each."""

    def __post_init__(self) -> None:
        check(self.beta >= 0, f"beta must be at least 0, got {self.beta:g}")

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        clean = bench.predict(x, bench.clean)
        return bench.attack(x, y, loss=lambda logits, _: kl(logits, clean), start="normal")

    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        z_clean, z_adv = both(bench, x, x_adv, self.forward)
        clean, adv = score("clean", z_clean, y, bench.smoothing), score("adv", z_adv.detach(), y)
        divergence = kl(z_adv, z_clean).mean()
        return {"loss": clean["clean_loss"] + self.beta * divergence, "kl": divergence, **clean, **adv}


@method("mart")
@dataclass(frozen=True)
class Mart(Crafting):
    """BCE(f(x'), y) + beta mean[KL(p(x) || p(x')) (1 - p_y(x))], with more weight on misclassified images.

    BCE is the cross-entropy plus -log(1.0001 - the largest wrong probability). x' is made by PGD on the
    cross-entropy from a normal start; the loss has gradients through the clean prediction and the weight.
    `forward` is as in `Trades`. Wang et al., ICLR 2020, equation 11; beta (their lambda) is that of the
    published ResNet-18 run, 6 for WRN-34-10.
    """

    beta: float = 5.0
    """Weight of the divergence."""
    forward: Forward = "separate"
    """Clean and adversarial images in one pass, or in one each."""

    def __post_init__(self) -> None:
        check(self.beta >= 0, f"beta must be at least 0, got {self.beta:g}")

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        return bench.attack(x, y, start="normal")

    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        z_clean, z_adv = both(bench, x, x_adv, self.forward)
        clean, adv = score("clean", z_clean.detach(), y), score("adv", z_adv, y)
        wrong = F.softmax(z_adv, 1).scatter(1, y[:, None], 0.0).max(1).values
        boosted = adv["adv_loss"] - torch.log1p(1e-4 - wrong).mean()
        doubt = 1.0000001 - F.softmax(z_clean, 1).gather(1, y[:, None])[:, 0]
        divergence = (kl(z_adv, z_clean) * doubt).mean()
        return {"loss": boosted + self.beta * divergence, "weighted_kl": divergence, **clean, **adv}
