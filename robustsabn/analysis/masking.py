"""Signs that gradients do not lead to adversarial images that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from robustsabn.analysis.attacked import (
    TOLERATED,
    Images,
    SweepPoint,
    Verdicts,
    accuracy,
    broken_only_by,
    fewer_steps,
    grey_radius,
    points,
    widened,
)
from robustsabn.analysis.results import Result, number
from robustsabn.attacks import PGD, ThreatModel
from robustsabn.attacks.model.inputs import check_batch, check_threat
from robustsabn.attacks.model.logits import Model
from robustsabn.errors import InputError
from robustsabn.report.console import output, result_table
from robustsabn.report.numbers import percent
from robustsabn.text import counted

__all__ = ["GradientMasking", "gradient_masking"]


@dataclass(frozen=True)
class GradientMasking(Result):
    """Checks for masked gradients on n images; see `gradient_masking`. All accuracies are in [0, 1].

    - clean: accuracy without an attack.
    - steps, step_sizes, radii: PGD by its number of steps, its step size / eps, and its radius / eps.
    - noise: accuracy on the worst of the random images; noise_only: number of images that these break and no
      PGD of radius eps does.
    - transfer, transfer_only: the same for the images of the surrogate; None without one.
    - findings: every sign of masked gradients in words; empty if there is none.
    """

    n: int
    clean: float
    steps: tuple[SweepPoint, ...]
    step_sizes: tuple[SweepPoint, ...]
    radii: tuple[SweepPoint, ...]
    noise: float
    noise_only: int
    transfer: float | None
    transfer_only: int | None
    findings: tuple[str, ...]

    def table(self) -> Table:
        rows = [["no attack", "", "", percent(self.clean, 1)]]
        for name, sweep in (
            ("steps", self.steps),
            ("step size / eps", self.step_sizes),
            ("radius / eps", self.radii),
        ):
            rows += [[name, number(p.setting), number(p.loss), percent(p.accuracy, 1)] for p in sweep]
        rows.append(["random images", "", "", percent(self.noise, 1)])
        if self.transfer is not None:
            rows.append(["images of the surrogate", "", "", percent(self.transfer, 1)])
        title = f"checks for masked gradients, {counted(self.n, 'image')}"
        return result_table(title, ["check", "setting", "loss", "accuracy"], rows)

    def show(self) -> None:
        """Print the table and every finding."""
        console = output()
        console.print(self.table())
        for finding in self.findings or ("no sign of masked gradients",):
            console.print(finding, markup=False)

    def to_dict(self) -> dict[str, Any]:
        sweeps = {name: [p._asdict() for p in getattr(self, name)] for name in _SWEEPS}
        return {**asdict(self), **sweeps, "findings": list(self.findings)}


_SWEEPS = ("steps", "step_sizes", "radii")


def gradient_masking(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    surrogate: Model | None = None,
    steps: Sequence[int] = (1, 2, 5, 10, 20),
    step_sizes: Sequence[float] = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0),
    random_images: int = 20,
    seed: int = 0,
    batch_size: int = 256,
) -> GradientMasking:
    """Checks whether the gradients of a classifier are masked, so that its robust accuracy is not to be
    trusted.

    Takes any callable that returns logits, images x (N, ...) and labels y (N,); select the route around the
    call. Signs of masked gradients, each a sentence in `findings`:

    - the fewest `steps` of PGD break more images than the most;
    - another step size, as a multiple of eps with the most steps, breaks 2 % more images than the usual
      2.5 eps / steps;
    - with a radius whose ball around every image has the grey image in it, (high - low) / 2 * D^(1/p) for
      images of D numbers, accuracy is above the share of the most frequent label, which is then the upper
      bound of robust accuracy;
    - `random_images` uniform in the ball break images that no PGD breaks;
    - so do the images of a PGD on `surrogate`, another network for the same classes.

    Differences of up to 1 % of the images count as chance. No sign proves nothing: AutoAttack gives the
    robust accuracy. The model and torch's random numbers are left as they are. With the defaults an image
    takes about 220 gradients and 40 forwards.

    Raises InputError for unusable images, labels, logits and settings. Sources: Athalye et al., ICML 2018,
    section 3.1; Carlini et al., arXiv 1902.06705, section 4.

    Example:

        >>> import torch
        >>> from robustsabn.analysis import gradient_masking
        >>> from robustsabn.attacks import ThreatModel
        >>> model = torch.nn.Linear(8, 3)
        >>> x = torch.rand(50, 8)
        >>> checks = gradient_masking(model, x, model(x).argmax(1), ThreatModel("Linf", 0.1))
        >>> checks.clean, checks.noise_only, checks.findings
        (1.0, 0, ())
    """
    check_threat(threat)
    check_batch(model, x, y)
    if isinstance(threat.eps, Tensor) and threat.eps.ndim:
        raise InputError("eps differs between images; give one eps, of which the radii are multiples")
    counts = sorted(set(steps))
    if not counts:
        raise InputError("steps is empty; give numbers of steps such as (1, 5, 20)")
    images = Images(x, y, seed, batch_size)
    attack = PGD(threat, steps=counts[-1], bn_mode="eval", check=False)
    eps = threat.eps_max

    def swept(settings: Mapping[float, PGD]) -> dict[float, Verdicts]:
        return {at: images.verdicts(model, images.made(model, one)) for at, one in settings.items()}

    by_steps = swept({n: replace(attack, steps=n, check=n == counts[0]) for n in counts})
    by_size = swept({factor: replace(attack, step_size=factor * eps) for factor in step_sizes})
    by_radius = swept({r / eps: replace(attack, threat=t) for r, t in widened(threat, x, (1, 2, 4)).items()})
    clean, noisy = images.verdicts(model, x), images.after_noise(model, threat, random_images)
    every = [clean, *by_steps.values(), *by_size.values()]
    found = torch.stack([one.broken for one in every]).any(0)
    moved = None if surrogate is None else images.verdicts(model, images.made(surrogate, attack)).broken
    checks = GradientMasking(
        n=len(x),
        clean=accuracy(clean.broken),
        steps=points(by_steps),
        step_sizes=points(by_size),
        radii=points(by_radius),
        noise=accuracy(noisy),
        noise_only=int((noisy & ~found).sum()),
        transfer=None if moved is None else accuracy(moved),
        transfer_only=None if moved is None else int((moved & ~found).sum()),
        findings=(),
    )
    most = int(y.bincount().max()) / len(y)
    return replace(checks, findings=tuple(_findings(checks, most)))


def _findings(checks: GradientMasking, most: float) -> list[str]:
    """Signs of masked gradients; `most` is the share of the most frequent label."""
    many = checks.steps[-1]
    found = fewer_steps(checks.steps)
    best = min(checks.step_sizes, key=lambda point: point.accuracy, default=many)
    if best.accuracy < many.accuracy - 2 * TOLERATED:
        found.append(
            f"steps of {best.setting:g} eps leave {percent(best.accuracy, 1)}, those of 2.5 eps / steps "
            f"{percent(many.accuracy, 1)}: accuracy depends on the step size"
        )
    found += grey_radius(checks.radii[-1], most)
    found += broken_only_by(checks.noise_only, "random images", checks.n)
    return found + broken_only_by(checks.transfer_only or 0, "the surrogate", checks.n)
