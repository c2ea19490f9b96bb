"""Training with single-step attacks: FGSM-RS, N-FGSM and GradAlign.

They use `norm`, `eps` and `bn_mode` of the configured attack; its other settings are for evaluation only.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustsabn.attacks import ThreatModel
from robustsabn.trainers.methods.base import Bench, Crafting, Losses, score
from robustsabn.trainers.methods.registry import check, method

__all__ = ["FgsmRs", "GradAlign", "NFgsm"]


class _Adversarial(Crafting):
    trains: ClassVar[Literal["clean", "adv"] | None] = "adv"
    smooths: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    def objective(self, bench: Bench, x: Tensor, x_adv: Tensor, y: Tensor) -> Losses:
        adv = score("adv", bench.forward(x_adv, bench.adv), y, bench.smoothing)
        distance = bench.threat.distance(x_adv, x).mean()
        return {"loss": adv["adv_loss"], "distance": distance, **adv}


def _step(bench: Bench, x: Tensor, y: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """x moved by `size` eps along the steepest ascent, without clipping, and the gradient at x."""
    gradient = bench.gradient(x, y)
    return x + size * bench.threat.eps_max * bench.threat.ascent(gradient, x), gradient


@method("fgsm-rs")
@dataclass(frozen=True)
class FgsmRs(_Adversarial):
    """CE(f_adv(x'), y), with x' one step of `alpha` eps from a uniform start, inside the ball.

    Wong et al., ICLR 2020.
    """

    alpha: float = 1.25
    """Step of the attack, in eps."""

    def __post_init__(self) -> None:
        check(self.alpha > 0, f"alpha must be positive, got {self.alpha:g}")

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        moved, _ = _step(bench, bench.threat.project(x + bench.noise(x), x), y, self.alpha)
        return bench.threat.project(moved, x)


@method("n-fgsm")
@dataclass(frozen=True)
class NFgsm(_Adversarial):
    """CE(f_adv(x'), y), with x' one step of `alpha` eps from uniform noise of `k` eps.

    x' is clipped to the range of images, but not to the ball, so it is up to (k + alpha) eps from x; the mean
    distance is logged as `distance`. de Jorge et al., NeurIPS 2022.
    """

    k: float = 2.0
    """Size of the noise that the attack starts from, in eps."""
    alpha: float = 1.0
    """Step of the attack, in eps."""

    def __post_init__(self) -> None:
        check(self.k >= 0, f"k must be at least 0, got {self.k:g}")
        check(self.alpha > 0, f"alpha must be positive, got {self.alpha:g}")

    def craft(self, bench: Bench, x: Tensor, y: Tensor) -> Tensor:
        low, high = bench.threat.bounds
        moved, _ = _step(bench, (x + self.k * bench.noise(x)).clamp(low, high), y, self.alpha)
        return moved.clamp(low, high)


@method("gradalign")
@dataclass(frozen=True)
class GradAlign(_Adversarial):
    """FGSM training plus lam mean[1 - cos(g(x), g(x + u))], u uniform in the ball, g the input gradient.

    g(x) is that of the attack and treated as constant; images with a zero gradient are left out of the mean.
    Without `lam`, the published value for CIFAR-10 in Linf up to 16/255 is used, 0.02 * 10^(255 eps / 8): 0.2
    at 8/255. Second derivatives are computed without `compile`. Andriushchenko and Flammarion, NeurIPS 2020,
    equation 5 and section 5.
    """

    lam: float | None = None
    """Weight of the alignment; none: 0.02 * 10^(255 eps / 8), for Linf up to 16/255."""
    alpha: float = 1.25
    """Step of the attack, in eps."""
    start: Literal["none", "uniform"] = "none"
    """Start of the attack."""

    def __post_init__(self) -> None:
        check(self.lam is None or self.lam >= 0, f"lam must be at least 0, got {self.lam}")
        check(self.alpha > 0, f"alpha must be positive, got {self.alpha:g}")

    def check_bench(self, bench: Bench, n: int) -> None:
        self._lam(bench.threat)

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        threat = bench.threat
        at = threat.project(x + bench.noise(x, self.start), x)
        moved, gradient = _step(bench, at, y, self.alpha)
        losses = self.objective(bench, x, threat.project(moved, x), y)
        beside = bench.gradient(x + bench.noise(x, purpose="align"), y, create_graph=True)
        apart = _misaligned(gradient, beside)
        return {**losses, "loss": losses["loss"] + self._lam(threat) * apart, "misalignment": apart}

    def _lam(self, threat: ThreatModel) -> float:
        if self.lam is not None:
            return self.lam
        known = threat.norm == "Linf" and 255 * threat.eps_max < 16.5
        check(
            known,
            "method.lam is not set, and published values exist for Linf up to 16/255 only, not for "
            f"{threat.norm} {threat.eps_max:g}; give one, such as method.lam=0.2",
        )
        return float(0.02 * 10 ** (255 * threat.eps_max / 8))


def _misaligned(fixed: Tensor, gradient: Tensor) -> Tensor:
    """Mean of 1 - cos over the images where both gradients are nonzero; 0 if there is none."""
    a, b = fixed.flatten(1), gradient.flatten(1)
    usable = (a != 0).any(1) & (b != 0).any(1)
    units = []
    for rows in (a, b):
        rows = torch.where(usable[:, None], rows, 1.0)  # the norm has no derivative at zero
        rows = rows / rows.detach().abs().amax(1, keepdim=True)  # squares of small gradients underflow
        units.append(rows / rows.norm(dim=1, keepdim=True))
    cosine = (units[0] * units[1]).sum(1)
    return torch.where(usable, 1 - cosine, 0.0).sum() / usable.sum().clamp_min(1)
