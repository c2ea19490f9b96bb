"""Accuracy against the radius and the number of steps of an attack, and class by class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

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
from robustsabn.attacks import PGD, ThreatModel, ZeroGradientWarning
from robustsabn.attacks.model.inputs import check_batch, check_threat
from robustsabn.attacks.model.logits import Model
from robustsabn.errors import InputError
from robustsabn.report.console import output, result_table
from robustsabn.report.numbers import eps_text, percent
from robustsabn.text import counted

__all__ = ["ClassAccuracy", "RobustnessCurves", "gradients_of", "robustness_curves"]

RADII = (1 / 4, 1 / 2, 3 / 4, 1.0, 3 / 2, 2.0, 3.0)
STEPS = (1, 2, 5, 10, 20, 50)


class ClassAccuracy(NamedTuple):
    """Accuracies in [0, 1] on the n images of one label."""

    label: int
    n: int
    clean: float
    robust: float


@dataclass(frozen=True)
class RobustnessCurves(Result):
    """Robustness on n images; see `robustness_curves`. Accuracies are in [0, 1].

    - norm, eps: the threat model; attack_steps: the steps of PGD for `radii` and `classes`.
    - radii: points by the radius in image units, from 0 (no attack); the last ball contains the grey image.
    - steps: points by the number of steps at radius eps, from 0 (no attack).
    - noise: accuracy on the worst of the random images in the ball; noise_only: number of images that these
      break and no PGD of radius eps does.
    - classes: accuracies by label, without an attack and at radius eps.
    - findings: every sign of masked gradients in words; empty if there is none.
    """

    n: int
    norm: str
    eps: float
    attack_steps: int
    radii: tuple[SweepPoint, ...]
    steps: tuple[SweepPoint, ...]
    noise: float
    noise_only: int
    classes: tuple[ClassAccuracy, ...]
    findings: tuple[str, ...]

    @property
    def clean(self) -> float:
        """Accuracy without an attack."""
        return self.radii[0].accuracy

    def table(self) -> Table:
        rows = [[f"eps {eps_text(p.setting)}", number(p.loss), percent(p.accuracy, 1)] for p in self.radii]
        rows += [
            [counted(int(p.setting), "step"), number(p.loss), percent(p.accuracy, 1)] for p in self.steps[1:]
        ]
        rows.append(["random images", "", percent(self.noise, 1)])
        title = (
            f"{counted(self.n, 'image')}, {self.norm}: PGD-{self.attack_steps} by radius, and "
            f"eps {eps_text(self.eps)} by steps"
        )
        return result_table(title, ["attack", "loss", "accuracy"], rows)

    def class_table(self, names: Sequence[str] | None = None) -> Table:
        """Accuracies by class; `names` are those of the labels."""
        rows = [
            [
                names[c.label] if names else f"class {c.label}",
                str(c.n),
                percent(c.clean, 1),
                percent(c.robust, 1),
            ]
            for c in self.classes
        ]
        return result_table("by class", ["class", "images", "clean accuracy", "robust accuracy"], rows)

    def show(self) -> None:
        """Print the tables and every finding."""
        console = output()
        console.print(self.table())
        console.print(self.class_table())
        for finding in self.findings or ("no sign of masked gradients",):
            console.print(finding, markup=False)

    def to_dict(self) -> dict[str, Any]:
        named = {name: [p._asdict() for p in getattr(self, name)] for name in ("radii", "steps", "classes")}
        return {**asdict(self), **named, "findings": list(self.findings)}

    @staticmethod
    def from_dict(content: dict[str, Any]) -> RobustnessCurves:
        """The curves that `to_dict` wrote; a null is an undefined number."""
        made: dict[str, type[Any]] = {"radii": SweepPoint, "steps": SweepPoint, "classes": ClassAccuracy}
        parts: dict[str, tuple[Any, ...]] = {
            name: tuple(
                kind(**{key: float("nan") if value is None else value for key, value in row.items()})
                for row in content[name]
            )
            for name, kind in made.items()
        }
        return RobustnessCurves(**{**content, **parts, "findings": tuple(content["findings"])})


def robustness_curves(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    radii: Sequence[float] = RADII,
    steps: Sequence[int] = STEPS,
    attack_steps: int = 20,
    random_images: int = 20,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> RobustnessCurves:
    """Accuracy of a classifier against the radius and the steps of PGD, and class by class.

    Takes any callable that returns logits, images x (N, ...) and labels y (N,); select the route around the
    call. PGD has `attack_steps` steps at the `radii`, multiples of eps, and at the radius whose ball around
    every image has the grey image in it; and each of `steps` at radius eps. Its step size is 2.5 eps / steps.

    Accuracy falls with the radius and with the steps, and reaches the share of the most frequent label. Where
    it does not, the gradients are masked and robust accuracies are too high, which `findings` says in
    sentences: gradients that are zero; the fewest steps break more images than the most; a larger radius
    breaks over 2 % fewer than a smaller one; accuracy stays above that share; random images in the ball break
    images that PGD does not. No sign proves nothing: AutoAttack gives the robust accuracy.

    With the defaults an image takes about 230 gradients and 40 forwards; `progress` is told after each batch
    how many gradients of images it took, of `gradients_of`. The model and torch's random numbers are left as
    they are. Raises InputError for unusable images, labels, logits and settings. Source: Carlini et al., "On
    evaluating adversarial robustness", arXiv 1902.06705, sections 4 and 5.

    Example:

        >>> import torch
        >>> from robustsabn.analysis import robustness_curves
        >>> from robustsabn.attacks import ThreatModel
        >>> model = torch.nn.Linear(8, 3)
        >>> x = torch.rand(50, 8)
        >>> curves = robustness_curves(model, x, model(x).argmax(1), ThreatModel("Linf", 0.1))
        >>> curves.clean, curves.radii[0].setting, curves.findings
        (1.0, 0.0, ())
    """
    check_threat(threat)
    check_batch(model, x, y)
    if isinstance(threat.eps, Tensor) and threat.eps.ndim:
        raise InputError("eps differs between images; give one eps, of which the radii are multiples")
    counts, factors = sorted({int(n) for n in steps}), sorted({float(r) for r in radii} | {1.0})
    if not counts:
        raise InputError("steps is empty; give numbers of steps such as (1, 5, 20)")
    if factors[0] <= 0:
        raise InputError(f"radii are multiples of eps above 0; got {factors[0]:g}")
    images = Images(x, y, seed, batch_size, progress or (lambda gradients: None))
    eps, known = threat.eps_max, dict[tuple[float, int], Verdicts]()

    def under(ball: ThreatModel, count: int, check: bool = False) -> Verdicts:
        at = (ball.eps_max, count)
        if at not in known:
            attack = PGD(ball, steps=count, bn_mode="eval", check=check)
            known[at] = images.verdicts(model, images.made(model, attack))
        return known[at]

    clean = images.verdicts(model, x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ZeroGradientWarning)
        under(threat, counts[0], check=True)
    flat = [str(one.message) for one in caught if one.category is ZeroGradientWarning]
    by_steps: dict[float, Verdicts] = {n: under(threat, n) for n in counts}
    by_radius = {radius: under(ball, attack_steps) for radius, ball in widened(threat, x, factors).items()}
    at_eps = under(threat, attack_steps)
    noisy = images.after_noise(model, threat, random_images)
    broken = torch.stack([clean.broken, at_eps.broken, *(one.broken for one in by_steps.values())]).any(0)
    curves = RobustnessCurves(
        n=len(x),
        norm=threat.norm,
        eps=eps,
        attack_steps=attack_steps,
        radii=points({0.0: clean, **by_radius}),
        steps=points({0: clean, **by_steps}),
        noise=accuracy(noisy),
        noise_only=int((noisy & ~broken).sum()),
        classes=_by_class(y, clean.broken, at_eps.broken),
        findings=(),
    )
    most = int(y.bincount().max()) / len(y)
    return replace(curves, findings=(*dict.fromkeys(flat), *_findings(curves, most)))


def gradients_of(
    n: int, radii: Sequence[float] = RADII, steps: Sequence[int] = STEPS, attack_steps: int = 20
) -> int:
    """About how many gradients of images `robustness_curves` takes for n images, for a progress bar."""
    own = {(1.0, count) for count in steps} | {(float(r), attack_steps) for r in (*radii, float("inf"))}
    return n * sum(count for _, count in own)


def _by_class(y: Tensor, wrong: Tensor, broken: Tensor) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(label, int(own.sum()), accuracy(wrong[own]), accuracy(broken[own]))
        for label in sorted(set(y.tolist()))
        for own in [y == label]
    )


def _findings(curves: RobustnessCurves, most: float) -> list[str]:
    found = fewer_steps(curves.steps[1:])
    lowest = curves.radii[0]
    for point in curves.radii[1:]:
        if point.accuracy > lowest.accuracy + 2 * TOLERATED:
            found.append(
                f"a radius of {eps_text(lowest.setting)} leaves {percent(lowest.accuracy, 1)} and the larger "
                f"one of {eps_text(point.setting)} {percent(point.accuracy, 1)}: a larger ball breaks fewer "
                "images"
            )
            break
        lowest = min(lowest, point, key=lambda one: one.accuracy)
    widest = curves.radii[-1]
    found += grey_radius(widest._replace(setting=widest.setting / curves.eps), most)
    return found + broken_only_by(curves.noise_only, "random images", curves.n)
