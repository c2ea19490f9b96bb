"""Adversarial images that improve clean accuracy: AdvProp and Fast AdvProp.

Both need one route for each kind of image.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.trainers.methods.base import (
    Bench,
    Crafting,
    Forward,
    Losses,
    Method,
    both,
    need_routes,
    score,
)
from robustsabn.trainers.methods.registry import check, method

__all__ = ["AdvProp", "FastAdvProp"]


@method("advprop")
@dataclass(frozen=True)
class AdvProp(Crafting):
    """CE(f_clean(x), y) + CE(f_adv(x'), y), with x' attacked towards a random wrong class.

    x' is made by 5 steps of PGD through the adversarial route. Use the clean route for prediction. Published
    settings: eps 4/255 in 5 steps of 1/255 for large networks, eps 1/255 in one step for small ones.
    `forward: separate` uses two forward passes instead of one. Xie et al., CVPR 2020, section 4 and algorithm
    1.
    """

    smooths: ClassVar[bool] = True

    forward: Forward = "split"
    """Clean and adversarial images in one pass, or in one each."""

    def check_bench(self, bench: Bench, n: int) -> None:
        need_routes(bench, "advprop")

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        self.check_bench(bench, len(x))
        return bench.attack(x, bench.other_classes(y), targeted=True, steps=5)

    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        z_clean, z_adv = both(bench, x, x_adv, self.forward)
        clean, adv = (score(k, z, y, bench.smoothing) for k, z in (("clean", z_clean), ("adv", z_adv)))
        return {"loss": clean["clean_loss"] + adv["adv_loss"], **clean, **adv}


@method("fast-advprop")
@dataclass(frozen=True)
class FastAdvProp(Method):
    """Mean CE where one image in `every` is adversarial; the pass that makes x' also trains the weights.

    x' is one step of `alpha` eps from a uniform start. The forward and backward pass that makes it is a
    training pass too, with weight 1/2, like the pass of x'. It therefore updates batch statistics, whatever
    `bn_mode` is. The gradient of a route's own parameters is the mean over the images of that route, and that
    of shared parameters the mean over all images. One image in 5 costs 3.6 forward passes per image; the
    published schedules are a sixth shorter than those of normal training, which makes it 3. `forward:
    separate` uses two forward passes for the last one. Mei et al., ICLR 2022, section 4, without their
    shuffling between processes.
    """

    mixes: ClassVar[bool] = True
    whole_batch: ClassVar[bool] = True  # one in `every` images of the whole batch

    every: int = 5
    """One in this many images is adversarial."""
    alpha: float = 1.0
    """Step of the attack, in eps."""
    forward: Forward = "split"
    """Clean and adversarial images in one pass, or in one each."""

    def __post_init__(self) -> None:
        check(self.every >= 2, f"every must be at least 2, got {self.every}")
        check(self.alpha > 0, f"alpha must be positive, got {self.alpha:g}")

    def check_bench(self, bench: Bench, n: int) -> None:
        need_routes(bench, "fast-advprop")
        check(
            n >= self.every,
            f"method.every is {self.every}, for batches of {n} images: none would be adversarial",
        )

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        n, threat = len(x), bench.threat
        self.check_bench(bench, n)
        place = torch.arange(n - n // self.every, device=x.device)
        place = place + place // (self.every - 1)  # all but every `every`-th
        (x_clean, y_clean), (x_, y_) = (
            (x[place], y[place]),
            (x[self.every - 1 :: self.every], y[self.every - 1 :: self.every]),
        )
        start = threat.project(x_ + bench.noise(x)[self.every - 1 :: self.every], x_)
        gradient, first = bench.ascend(lambda at: F.cross_entropy(bench.forward(at, bench.adv), y_), start)
        x_adv = threat.project(start + self.alpha * threat.eps_max * threat.ascent(gradient, start), x_)
        z_clean, z_adv = both(bench, x_clean, x_adv, self.forward)
        clean, adv = score("clean", z_clean, y_clean), score("adv", z_adv, y_)
        share = len(x_) / n
        bench.scale_routes({bench.clean: 1 / (1 - share), bench.adv: 1 / share})
        loss = (1 - share) * clean["clean_loss"] + share * (first + adv["adv_loss"]) / 2
        return {"loss": loss, "start_loss": first, **clean, **adv}
