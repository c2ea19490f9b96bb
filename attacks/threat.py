"""Threat models: which perturbations of an image count."""

import copy
import math
import operator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from robustsabn.attacks.noise import Start, ball_noise
from robustsabn.attacks.projections import (
    Radius,
    project_l1,
    project_l2,
    project_linf,
    radius_like,
    sample_norm,
)
from robustsabn.attacks.steps import steepest
from robustsabn.errors import InputError
from robustsabn.scalars import real
from robustsabn.text import quote

__all__ = ["Norm", "ThreatModel"]

Norm = Literal["Linf", "L2", "L1"]

_PROJECT = {"Linf": project_linf, "L2": project_l2, "L1": project_l1}
_ORDER = {"Linf": math.inf, "L2": 2.0, "L1": 1.0}


@dataclass(frozen=True, eq=False)
class ThreatModel:
    """All x' with ||x' - x||_norm <= eps and bounds[0] <= x' <= bounds[1].

    `eps` is in the units of the images (8/255, not 8, for images in [0, 1]); a tensor (N,) gives every sample
    of a batch its own. `eps_max` is its largest value, known without asking the device.
    Ends of the box that a dtype cannot hold are rounded inwards for the attacks (`box`), and to nearest for what is
    taken for inside (`rim`), which is what a clamp to the bounds leaves.
    Raises InputError for an unknown norm, empty bounds, and eps negative, not finite or wider than the box.
    """

    norm: Norm
    eps: Radius
    bounds: tuple[float, float] = (0.0, 1.0)
    eps_max: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.norm, str) or self.norm not in get_args(Norm):
            raise InputError(f"norm is {quote(self.norm)}; allowed are {', '.join(get_args(Norm))}")
        object.__setattr__(self, "bounds", _checked(self.bounds))
        eps: object = self.eps
        if isinstance(eps, Tensor):
            if eps.ndim > 1 or not eps.numel() or not eps.is_floating_point():
                raise InputError(
                    f"eps has shape {tuple(eps.shape)} and dtype {eps.dtype}; give a number or a floating tensor (N,)"
                )
            least, most = eps.detach().aminmax()
            smallest, largest = float(least), float(most)
            object.__setattr__(self, "eps", eps.detach() if eps.ndim else largest)
        elif (number := real(eps)) is not None:
            smallest = largest = number
            object.__setattr__(self, "eps", largest)
        else:
            raise InputError(f"eps is {quote(eps)}; give a number or a floating tensor (N,)")
        if not (smallest >= 0 and math.isfinite(largest)):
            raise InputError(
                f"eps is {smallest if smallest < 0 else largest}; it must be finite and at least 0"
            )
        object.__setattr__(self, "eps_max", largest)
        if self.norm == "Linf":
            self._fits(1)

    def box(self, dtype: torch.dtype) -> tuple[float, float]:
        """The bounds rounded inwards to `dtype`: whatever is clamped to them is inside in full precision as well.

        Raises InputError where no number of the dtype lies between the bounds.
        """
        return _inwards(*self.bounds, dtype)

    def rim(self, dtype: torch.dtype) -> tuple[float, float]:
        """The bounds, or what they are when rounded to `dtype` (at most float32) if that is further out."""
        return _outermost(*self.bounds, dtype)

    def _fits(self, dimensions: int) -> None:
        low, high = self.bounds
        widest = (high - low) * dimensions ** (1 / _ORDER[self.norm])
        if self.eps_max > widest * (1 + 1e-6):
            hint = f"; eps is in image units: {self.eps_max:g}/255?" if (low, high) == (0, 1) else ""
            raise InputError(
                f"eps {self.eps_max:g} in {self.norm} is wider than the whole box [{low:g}, {high:g}] "
                f"({widest:g}){hint or '; give a smaller eps'}"
            )

    def fit(self, x: Tensor) -> "ThreatModel":
        """This threat model on the device of the batch `x` (N, ...); InputError if eps does not fit the batch."""
        self._fits(math.prod(x.shape[1:]))
        if not isinstance(self.eps, Tensor):
            return self
        if self.eps.shape != x.shape[:1]:
            raise InputError(
                f"eps holds {self.eps.numel()} values for {x.shape[0]} images; give one per image"
            )
        return self.with_eps(self.eps.to(x.device, x.dtype))

    def select(self, index: Tensor) -> "ThreatModel":
        """The threat model of the samples `index` (integer or bool tensor) of the batch."""
        return self.with_eps(self.eps[index]) if isinstance(self.eps, Tensor) else self

    def with_eps(self, eps: Tensor) -> "ThreatModel":
        """This threat model with checked radii `eps` (N,) of the samples of another batch."""
        other = copy.copy(self)
        object.__setattr__(other, "eps", eps)
        return other

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """`x_adv` (N, ...) moved into the ball around `x` and into the box."""
        return _PROJECT[self.norm](x_adv, x, self.eps, self.box(x_adv.dtype))

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """||x_adv - x|| of every sample, (N,)."""
        return sample_norm(x_adv - x, _ORDER[self.norm]).flatten()

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Bool (N,): finite, inside the box, and inside the ball up to a stated slack.

        Slack: 1e-6 eps, plus the norm of one float32 rounding per coordinate (6e-8 for a box that ends at 1),
        which x + delta stored in float32 cannot avoid. The box is that of `rim`. Distances are taken in float64.
        """
        low, high = self.rim(x_adv.dtype)
        wide = x_adv.double()
        boxed = ((wide >= low) & (wide <= high)).flatten(1).all(1)
        rounding = torch.finfo(torch.float32).eps / 2 * max(abs(low), abs(high))
        rounding *= math.prod(x.shape[1:]) ** (1 / _ORDER[self.norm])
        limit = radius_like(self.eps, wide).flatten() * (1 + 1e-6) + rounding
        return boxed & self.distance(wide, x.double()).le(limit)

    def ascent(self, grad: Tensor, x_adv: Tensor | None = None, *, fraction: Radius = 0.05) -> Tensor:
        """Step of unit length in the norm along which the linearised loss rises most, for `grad` (N, ...).

        Linf: sign. L2: grad / ||grad||_2 (exact for tiny gradients as well). L1: equal steps on the given
        `fraction` (one number, or one per sample) of coordinates with the largest slopes; one coordinate alone
        would be steepest but never leave it. With `x_adv`, coordinates that the box stops are not among them.
        Zero gradients give zero steps. Source of the L1 step: Tramèr and Boneh, NeurIPS 2019, section 4.1.
        """
        return steepest(self.norm, grad, x_adv, self.box(grad.dtype), fraction)

    def noise(self, x: Tensor, kind: Start = "uniform", generator: torch.Generator | None = None) -> Tensor:
        """Random perturbation shaped like `x`, inside the ball, blind to the values of `x` and to the box.

        `uniform` in the ball; `normal` is 0.001 N(0, 1), cut to the ball (TRADES, MART); `none` is zero.
        Drawn by `generator` on its own device, or by torch's generator of the device of `x`.
        """
        return ball_noise(self.norm, self.eps, x, kind, generator)

    def random_start(
        self, x: Tensor, kind: Start = "uniform", generator: torch.Generator | None = None
    ) -> Tensor:
        """`x` plus `noise`, inside ball and box."""
        return x.clone() if kind == "none" else self.project(x + self.noise(x, kind, generator), x)


def _checked(bounds: object) -> tuple[float, float]:
    ends = bounds if isinstance(bounds, (tuple, list)) else ()
    low, high = (real(end) for end in ends) if len(ends) == 2 else (None, None)
    if low is None or high is None:
        raise InputError(
            f"bounds are {quote(bounds)}; give two numbers (low, high), (0, 1) for images in [0, 1]"
        )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"bounds are {bounds}; give two finite numbers (low, high) with low < high")
    return low, high


@lru_cache
def _inwards(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    ends = []
    for end, other, outside in ((low, high, operator.lt), (high, low, operator.gt)):
        exact = torch.tensor(end, dtype=torch.float64)
        rounded = exact.to(dtype)
        if outside(rounded.double(), exact):
            rounded = torch.nextafter(rounded, torch.tensor(other, dtype=torch.float64).to(dtype))
        ends.append(rounded.item())
    if not low <= ends[0] <= ends[1] <= high:
        raise InputError(f"no {dtype} lies within the bounds {(low, high)}; give wider ones")
    return ends[0], ends[1]


@lru_cache
def _outermost(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    coarse = torch.float32 if dtype == torch.float64 else dtype
    near = torch.tensor([low, high], dtype=torch.float64).to(coarse).tolist()
    return min(low, near[0]), max(high, near[1])
