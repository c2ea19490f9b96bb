"""What a run of adversarial training is made of: the keys of a recipe, their defaults and ranges."""

from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from robustsabn.config import choices
from robustsabn.config.checks import check, count
from robustsabn.routing.names import what_is_wrong
from robustsabn.text import quote
from robustsabn.trainers.config import (
    OPTIMISERS,
    SCHEDULES,
    Augment,
    Cosine,
    Extra,
    Optim,
    RunConfig,
    Schedule,
    Sgd,
    Swa,
    Validation,
    at_start,
    fixed,
    fixed_choice,
    free,
)
from robustsabn.trainers.methods import METHODS, Method, Paired, Standard, complete

__all__ = ["Attack", "RobustValidation", "Test", "TrainConfig"]


@dataclass(frozen=True)
class Attack:
    """The attack of training: PGD in the `norm` ball of radius `eps`, in units of images in [0, 1].

    `steps`, `start` and `loss` left out are those of the method; evaluation then starts uniformly and
    maximises the cross-entropy. `step_size` defaults to that of the attack (2.5 eps / steps). `bn_mode` says
    what batch normalisation does during the attack: `eval` running statistics; `train` batch statistics, and
    the running ones follow (as the official code); `frozen` batch statistics, the running ones untouched.
    With `fold` an attack in `eval` mode searches on a copy of the network with batch norms folded away,
    brought up to date every step, where one can be made safely (float32 alone)."""

    norm: Literal["Linf", "L2", "L1"] = "Linf"
    eps: float = 8 / 255
    step_size: float | None = None
    steps: int | None = None
    start: Literal["uniform", "normal", "none"] | None = None
    loss: Literal["ce", "margin", "dlr"] | None = None
    bn_mode: Literal["eval", "train", "frozen"] = "eval"
    fold: bool = True

    def __post_init__(self) -> None:
        check(self.eps > 0, f"eps must be positive, got {self.eps:g}")
        check(
            self.norm != "Linf" or self.eps <= 1,
            f"eps {self.eps:g} is wider than images in [0, 1]; write {self.eps:g}/255?",
        )
        check(
            self.step_size is None or self.step_size > 0, f"step_size must be positive, got {self.step_size}"
        )
        count("steps", self.steps)


@dataclass(frozen=True)
class RobustValidation(Validation):
    """Every `every` epochs and at the end: clean and PGD-`steps` accuracy on `images` held-out training
    images.

    The best checkpoint is that of highest `select` accuracy: `robust` on the adversarial route, or `clean` on
    the first, by default for the method `standard` alone; the other one decides between equals. With `gap`,
    also PGD accuracy on as many training images, for as much time again."""

    steps: int = 10
    select: Literal["robust", "clean"] | None = None
    gap: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        count("steps", self.steps)


@dataclass(frozen=True)
class Test:
    """The closing table, of the best checkpoint: PGD-`steps` on `images` of the test set (all by default).

    With `autoattack`, also AutoAttack standard on at most that many images, through the last route.
    """

    images: int | None = None
    steps: int = 20
    autoattack: int | None = None
    batch_size: int = 500

    def __post_init__(self) -> None:
        count("images", self.images)
        count("steps", self.steps)
        count("autoattack", self.autoattack)
        count("batch_size", self.batch_size)

    @property
    def asked(self) -> list[int | None]:
        """What the closing table depends on besides the weights."""
        return [self.images, self.steps, self.autoattack]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """The configuration of a run of adversarial training; docs/training.md describes every key.

    - model: a registered name or a model specification, with `model_options`; weights: a file to start from,
      without its last layer with `fresh_head`.
    - norm, routes, init: a preset of routed normalisation with its routes, or "none" for the model as it is.
    - epochs, or steps: the length of the run. batch_size counts all processes; an incomplete last batch is
      dropped.
    - accumulate: each process computes its share of a batch in so many parts, one after the other.
    - ema: decay of an average of the weights; swa: which epochs have an equal average. Both are evaluated and
      kept.
    - images: number of training images; download: download a public set that is missing.

    Raises ConfigError for a value that is not allowed.

    Example:

        >>> from robustsabn.trainers import TrainConfig
        >>> config = TrainConfig(norm="sabn", epochs=5)
        >>> config.routes, config.attack.norm
        (('clean', 'adv'), 'Linf')
    """

    model: str = field(default="resnet-digits", metadata=fixed())
    model_options: dict[str, Any] = field(default_factory=dict, metadata=fixed())
    weights: str | None = field(default=None, metadata=at_start())
    fresh_head: bool = field(default=False, metadata=at_start())
    extra: Extra | None = None
    augment: Augment = field(default_factory=Augment)

    norm: Literal["none", "bn", "ccbn", "sabn", "auxbn", "saauxbn"] = field(
        default="saauxbn", metadata=fixed()
    )
    routes: tuple[str, ...] = field(default=("clean", "adv"), metadata=fixed())
    init: Literal["identity", "paper"] = "identity"
    sync_bn: bool = False

    method: Method = field(default_factory=Paired, metadata=choices(METHODS))
    attack: Attack = field(default_factory=Attack)
    label_smoothing: float = 0.0

    optim: Optim = field(default_factory=Sgd, metadata=choices(OPTIMISERS) | fixed_choice())
    schedule: Schedule = field(default_factory=Cosine, metadata=choices(SCHEDULES))
    accumulate: int = 1
    swa: Swa | None = None

    validation: RobustValidation = field(default_factory=RobustValidation)
    test: Test = field(default_factory=Test, metadata=free())

    def __post_init__(self) -> None:
        super().__post_init__()
        count("accumulate", self.accumulate)
        fine = self.weights is not None or not self.fresh_head
        check(fine, "fresh_head leaves out the last layer of weights, which is missing; give weights=FILE")
        named = type(self.method).__name__
        check(
            is_dataclass(self.method),
            f"method: {named} is no dataclass; put @dataclass(frozen=True) above it",
        )
        complete(type(self.method), f"method {named}")
        smoothing = self.label_smoothing
        check(0 <= smoothing < 1, f"label_smoothing must be in [0, 1), got {smoothing:g}")
        self._check_extra()
        self._check_method("label_smoothing", smoothing > 0, "smooths")
        self._check_method("augment.mix", self.augment.mix != "none", "mixes")
        fine = self.augment.mix == "none" or self.attack.loss in (None, "ce")
        check(
            fine,
            f"augment.mix gives no single label, which attack.loss {self.attack.loss} needs; allowed: ce",
        )
        wrong = what_is_wrong(self.routes)
        check(
            not wrong,
            f"routes are distinct names such as clean, adv: {wrong}; got {quote(list(self.routes))}",
        )

    @property
    def by_robustness(self) -> bool:
        """Whether the best checkpoint is the most robust one, rather than that of highest clean accuracy."""
        if self.validation.select is None:
            return not isinstance(self.method, Standard)
        return self.validation.select == "robust"

    @property
    def soft_labels(self) -> str:
        """The settings that spread a label over several classes, as they are written; "" without."""
        mix, smoothing = self.augment.mix, self.label_smoothing
        given = [f"augment.mix={mix}"] * (mix != "none")
        given += [f"label_smoothing={smoothing:g}"] * (smoothing > 0)
        return " with ".join(given)

    def _check_extra(self) -> None:
        if self.extra is None:
            return
        fine = self.extra.data != self.data
        check(
            fine,
            f"extra.data is {self.data}, the training data, of which images are held out; name another set",
        )
        found = self.extra.count(self.batch_size)
        fine = 0 < found < self.batch_size
        words = f"extra.fraction {self.extra.fraction:g} of batch_size {self.batch_size} is {found} images"
        check(fine, f"{words}; choose one that leaves some of both sets")

    def _check_method(self, key: str, wanted: bool, trait: Literal["smooths", "mixes"]) -> None:
        able = ", ".join(name for name, cls in METHODS.items() if getattr(cls, trait))
        fine = not wanted or getattr(self.method, trait)
        check(fine, f"{key} is not for this method; methods with it: {able}")


CONFIG = TrainConfig
