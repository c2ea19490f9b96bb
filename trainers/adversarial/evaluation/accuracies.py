"""The accuracies of one evaluation, by attack and route."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from robustsabn.report.numbers import eps_text, percent
from robustsabn.trainers.adversarial.evaluation.chance import chance_note
from robustsabn.trainers.runs.measured import Measured

__all__ = ["Evaluation"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(Measured):
    """Accuracies in [0, 1] on `n` images.

    - clean[r]: clean images through route r. The only route of a model without routes is called "all".
    - robust[a][r]: images attacked through route a, scored through route r.
    - attack, norm, eps, step_size: the attack, its threat model and step size in image units.
    - unusable: images with NaN or +inf logits, which count as wrong.
    - autoattack[r], if measured: the first `autoattack_n` images, attacked by AutoAttack through the last
      route and scored through r. same_images[r]: the same images under `attack`, if there are more than
      these.
    - notes: warnings about images and accuracies.

    Example:

        >>> from robustsabn.trainers import Evaluation
        >>> clean, robust = {"clean": 0.99, "adv": 0.98}, {"adv": {"clean": 0.41, "adv": 0.75}}
        >>> measured = Evaluation(n=355, clean=clean, robust=robust, attack="pgd-20", norm="Linf", eps=0.15)
        >>> measured.clean_accuracy, measured.robust_accuracy
        (0.99, 0.75)
    """

    n: int
    clean: dict[str, float]
    robust: dict[str, dict[str, float]]
    attack: str
    norm: str
    eps: float
    step_size: float | None = None
    unusable: int = 0
    autoattack: dict[str, float] = field(default_factory=dict)
    autoattack_n: int = 0
    same_images: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def summary(self) -> str:
        robust = f"{self.attack} {percent(self.robust_accuracy)}"
        return f"clean {percent(self.clean_accuracy)}, {robust}, {self.setting}"

    @property
    def setting(self) -> str:
        """The images and the threat model, in words."""
        step = "" if self.step_size is None else f", step size {eps_text(self.step_size)}"
        return f"{self.n} test images, {self.norm} eps {eps_text(self.eps)}{step}"

    @property
    def protocol(self) -> str:
        return f"{self.attack} on {self.setting}"

    def measurement(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("attack", "norm", "eps", "step_size", "n")}

    def numbers(self) -> dict[str, float]:
        numbers = {"clean_accuracy": self.clean_accuracy, "robust_accuracy": self.robust_accuracy}
        if len(self.routes) > 1:
            numbers["clean_accuracy_last_route"] = self.clean[self.routes[-1]]
        return numbers

    @property
    def warning(self) -> str | None:
        """A one-line warning about the numbers, or None."""
        if not self.unusable:
            return None
        return (
            f"NaN or infinite logits for {self.unusable} of {self.n} images, which count as wrong: "
            "this is not robustness but a numerical failure of the model; check its weights"
        )

    def rows(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        rows = [["clean images", None, name, rate] for name, rate in self.clean.items()]
        tables = {self.attack: self.robust, "autoattack": {self.routes[-1]: self.autoattack}}
        for attack, table in tables.items():
            rows += [[attack, a, r, rate] for a, row in table.items() for r, rate in row.items()]
        return ("images", "attacked_through", "scored_through", "accuracy"), rows

    @property
    def routes(self) -> tuple[str, ...]:
        return tuple(self.clean)

    @property
    def clean_accuracy(self) -> float:
        """Accuracy on clean images through the first route."""
        return self.clean[self.routes[0]]

    @property
    def robust_accuracy(self) -> float:
        """Accuracy on images attacked through the last attacked route and scored through it."""
        last = list(self.robust)[-1]
        return self.robust[last][last]

    def noted(self, notes: Sequence[str], classes: int) -> "Evaluation":
        """This evaluation with `notes`, and a warning for each accuracy that is close to guessing.

        `classes` is the number of classes.
        """
        many = len(self.clean) > 1
        lines = [
            chance_note(round(rate * self.n), self.n, classes, f" through {name}" if many else "")
            for name, rate in self.clean.items()
        ]
        return replace(self, notes=(*notes, *filter(None, lines)))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and dictionaries for JSON, with `notes` if there are any."""
        return {name: value for name, value in asdict(self).items() if value or name != "notes"}
