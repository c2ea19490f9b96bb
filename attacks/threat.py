"""Threat models: which perturbations of an image are allowed."""

import copy
import math
import operator
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from robustsabn.attacks.habits import answered
from robustsabn.attacks.noise import Start, ball_noise
from robustsabn.attacks.projections import (
    NORMS,
    Norm,
    Radius,
    norm_of,
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

_PROJECT = {"Linf": project_linf, "L2": project_l2, "L1": project_l1}
_ORDER = {"Linf": math.inf, "L2": 2.0, "L1": 1.0}


@answered("ThreatModel('Linf', 8 / 255)")
@dataclass(frozen=True, eq=False)
class ThreatModel:
    """All images x' with ||x' - x||_norm <= eps and bounds[0] <= x' <= bounds[1].

    - norm: "Linf", "L2" or "L1", in upper or lower case; also inf, 2 or 1.
    - eps: in the units of the images, 8/255 and not 8 for images in [0, 1]; a tensor (N,) gives one per
      sample.
    - bounds: the smallest and largest value of a pixel.
    - eps_max: the largest eps, a number on the host.

    A dtype may not hold the bounds exactly. Attacks stay within bounds that are rounded inwards (`box`);
    images count as inside up to the bounds rounded to nearest (`rim`), which is where a clamp to the bounds
    ends. Raises InputError for an unknown norm, empty bounds, and an eps that is negative, not finite or
    wider than the box.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import ThreatModel
        >>> threat = ThreatModel("Linf", 8 / 255)
        >>> x = torch.zeros(1, 3, 2, 2)
        >>> x_adv = threat.project(x + 0.5, x)
        >>> round(float(x_adv.max()) * 255, 3), bool(threat.contains(x_adv, x))
        (8.0, True)
    """

    norm: Norm
    eps: Radius
    bounds: tuple[float, float] = (0.0, 1.0)
    eps_max: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if (norm := norm_of(self.norm)) is None:
            raise InputError(f"norm is {quote(self.norm)}; allowed are {', '.join(NORMS)}")
        object.__setattr__(self, "norm", norm)
        object.__setattr__(self, "bounds", _checked(self.bounds))
        eps: object = self.eps
        if isinstance(eps, Tensor):
            if eps.ndim > 1 or not eps.numel() or not eps.is_floating_point():
                raise InputError(
                    f"eps has shape {tuple(eps.shape)} and dtype {eps.dtype}; give a number or a floating "
                    "tensor (N,)"
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
        """The bounds rounded inwards to `dtype`, so that clamped values lie within the exact bounds too.

        Raises InputError where no number of the dtype lies between the bounds.
        """
        return _inwards(*self.bounds, dtype)

    def rim(self, dtype: torch.dtype) -> tuple[float, float]:
        """The bounds, or their values rounded to `dtype` (float32 at most) where those lie further out."""
        return _outermost(*self.bounds, dtype)

    def _fits(self, dimensions: int) -> None:
        low, high = self.bounds
        widest = (high - low) * dimensions ** (1 / _ORDER[self.norm])
        if self.eps_max > widest * (1 + 1e-6):
            hint = (
                (f"; eps is in image units: did you mean {self.eps_max:g}/255?")
                if (low, high) == (0, 1)
                else ""
            )
            raise InputError(
                f"eps {self.eps_max:g} in {self.norm} is wider than the whole box [{low:g}, {high:g}] "
                f"({widest:g}){hint or '; give a smaller eps'}"
            )

    def fit(self, x: Tensor) -> "ThreatModel":
        """This threat model on the device of the batch `x` (N, ...).

        Raises InputError where eps is wider than the box, or not one value per image.
        """
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
        """This threat model with other radii `eps` (N,), which are not checked again."""
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
        """Bool (N,): `x_adv` is finite, inside the box (`rim`), and inside the ball up to a small tolerance.

        The tolerance is 1e-6 eps plus the norm of one float32 rounding per coordinate (6e-8 for a box that
        ends at 1), which no x + delta stored in float32 can avoid. Distances are computed in float64."""
        low, high = self.rim(x_adv.dtype)
        wide = x_adv.double()
        boxed = ((wide >= low) & (wide <= high)).flatten(1).all(1)
        rounding = torch.finfo(torch.float32).eps / 2 * max(abs(low), abs(high))
        rounding *= math.prod(x.shape[1:]) ** (1 / _ORDER[self.norm])
        limit = radius_like(self.eps, wide).flatten() * (1 + 1e-6) + rounding
        return boxed & self.distance(wide, x.double()).le(limit)

    def ascent(self, grad: Tensor, x_adv: Tensor | None = None, *, fraction: Radius = 0.05) -> Tensor:
        """Step of unit length in the norm along which the linearised loss increases most, for `grad` (N,
        ...).

        Linf: the sign of the gradient. L2: grad / ||grad||_2, also exact for tiny gradients. L1: equal steps
        on the `fraction` (one number, or one per sample) of coordinates with the largest gradients; a single
        coordinate would be steepest, but would be chosen again at every step. With `x_adv`, coordinates that
        would leave the box are not chosen. A zero gradient gives a zero step. Source of the L1 step: Tramèr
        and Boneh, NeurIPS 2019, section 4.1."""
        return steepest(self.norm, grad, x_adv, self.box(grad.dtype), fraction)

    def noise(self, x: Tensor, kind: Start = "uniform", generator: torch.Generator | None = None) -> Tensor:
        """Random perturbation shaped like `x`, inside the ball; it ignores the values of `x` and the box.

        "uniform" in the ball; "normal" is 0.001 N(0, 1), cut to the ball (TRADES, MART); "none" is zero.
        Drawn by `generator` on its own device, or by torch's generator of the device of `x`.
        """
        return ball_noise(self.norm, self.eps, x, kind, generator)

    def random_start(
        self, x: Tensor, kind: Start = "uniform", generator: torch.Generator | None = None
    ) -> Tensor:
        """`x` plus `noise`, projected into the ball and the box."""
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
