"""One network for any trade-off between clean and robust accuracy, selected by a Blend of the routes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustsabn.trainers.methods.base import Bench, Losses, Method, need_routes, score
from robustsabn.trainers.methods.registry import check, method

__all__ = ["Oat"]


@method("oat")
@dataclass(frozen=True)
class Oat(Method):
    """(1 - l) CE(f_l(x), y) + l CE(f_l(x'), y), with f_l through Blend(clean=1 - l, adv=l).

    Every step draws one l from `lambdas`; x' is made by 7 steps of PGD through f_l. Steps with l = 0 need no
    attack, those with l = 1 use no clean images. At test time any l in [0, 1] can be chosen: `route(model,
    Blend(clean=0.7, adv=0.3))`. Wang et al., NeurIPS 2020, equation 3. In the paper l is an input of every
    layer, drawn per image from 0, .1, .2, .3, .4, 1, and selects one of two normalisations. Here it mixes the
    affines and statistics of the routes, so its values are evenly spaced.
    """

    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    lambdas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Shares of the adversarial route, one of which is drawn in each step."""

    def __post_init__(self) -> None:
        valid = self.lambdas and all(0 <= share <= 1 for share in self.lambdas)
        check(bool(valid), f"lambdas are shares of the adversarial route in [0, 1], got {list(self.lambdas)}")

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        need_routes(bench, "oat")
        share = bench.pick(self.lambdas)
        through = bench.blend(share)
        parts = [] if share == 1 else [("clean", 1 - share, x)]
        if share > 0:
            parts.append(("adv", share, bench.attack(x, y, steps=7, through=through)))
        logits = bench.forward(torch.cat([images for _, _, images in parts]), through)
        loss = logits.new_zeros(())
        for (kind, weight, _), z in zip(parts, logits.split_with_sizes([len(x)] * len(parts)), strict=True):
            loss = loss + weight * score(kind, z, y, bench.smoothing)[f"{kind}_loss"]
        return {"loss": loss, "lambda": logits.new_full((), share)}
