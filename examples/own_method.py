"""A training method of your own: adversarial logit pairing (Kannan et al., 2018), registered and trained.

python examples/own_method.py [key=value ...]
"""

import sys
from dataclasses import dataclass

from torch import Tensor

from robustsabn.trainers import train
from robustsabn.trainers.methods import Bench, Losses, check, method, score


@method("logit-pairing")
@dataclass(frozen=True)
class LogitPairing:
    """CE(f_adv(x'), y) + weight mean ||f_clean(x) - f_adv(x')||^2."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        check(self.weight >= 0, f"weight must be at least 0, got {self.weight:g}")

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        x_adv = bench.attack(x, y)  # PGD through the adversarial route, as the configuration says
        z_clean, z_adv = bench.forward(x, bench.clean), bench.forward(x_adv, bench.adv)
        adv, apart = score("adv", z_adv, y), (z_clean - z_adv).square().sum(1).mean()
        return {"loss": adv["adv_loss"] + self.weight * apart, "apart": apart, **adv}


if __name__ == "__main__":
    train("digits", ["method=logit-pairing", "out=runs/logit-pairing", *sys.argv[1:]])
