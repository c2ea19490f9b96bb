"""What a training run is made of: the keys of a recipe, their defaults and ranges."""

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from robustsabn.routing.names import what_is_wrong
from robustsabn.config import choices
from robustsabn.text import quote
from robustsabn.trainers.methods import METHODS, Method, Paired, Standard
from robustsabn.config.checks import Augment, Extra, Swa
from robustsabn.config.checks import check as _check
from robustsabn.config.checks import count as _count

__all__ = [
    "AdamW",
    "Attack",
    "Augment",
    "Constant",
    "Cosine",
    "Cyclic",
    "Extra",
    "MultiStep",
    "OneCycle",
    "Optim",
    "Schedule",
    "Sgd",
    "Swa",
    "Test",
    "TrainConfig",
    "Validation",
]


@dataclass(frozen=True)
class Attack:
    """The attack of training: PGD in the `norm` ball of radius `eps`, in units of images in [0, 1].

    `steps`, `start` and `loss` left out are those of the method; evaluation then starts uniformly and maximises the
    cross-entropy. `step_size` defaults to that of the attack (2.5 eps / steps). `bn_mode` says what batch normalisation does during
    the attack: `eval` running statistics; `train` batch statistics, and the running ones follow (as the official code);
    `frozen` batch statistics, the running ones untouched. With `fold` an attack in `eval` mode searches on a copy of the
    network with batch norms folded away, brought up to date every step, where one can be made safely (float32 alone).
    """

    norm: Literal["Linf", "L2", "L1"] = "Linf"
    eps: float = 8 / 255
    step_size: float | None = None
    steps: int | None = None
    start: Literal["uniform", "normal", "none"] | None = None
    loss: Literal["ce", "margin", "dlr"] | None = None
    bn_mode: Literal["eval", "train", "frozen"] = "eval"
    fold: bool = True

    def __post_init__(self) -> None:
        _check(self.eps > 0, f"eps must be positive, got {self.eps:g}")
        _check(
            self.norm != "Linf" or self.eps <= 1,
            f"eps {self.eps:g} is wider than images in [0, 1]; write {self.eps:g}/255?",
        )
        _check(
            self.step_size is None or self.step_size > 0, f"step_size must be positive, got {self.step_size}"
        )
        _count("steps", self.steps)


@dataclass(frozen=True)
class Optim:
    """Learning rate (the schedule's peak), weight decay and what it acts on, largest L2 norm of the gradient.

    `decay: weights` spares biases, the affines of norms (those of routes too) and other vectors.
    """

    lr: float = 0.1
    weight_decay: float = 5e-4
    decay: Literal["all", "weights"] = "all"
    clip: float | None = None

    def __post_init__(self) -> None:
        _check(self.lr > 0, f"lr must be positive, got {self.lr:g}")
        _check(self.weight_decay >= 0, f"weight_decay must be at least 0, got {self.weight_decay:g}")
        _check(self.clip is None or self.clip > 0, f"clip must be positive, got {self.clip}")


@dataclass(frozen=True)
class Sgd(Optim):
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 <= self.momentum < 1, f"momentum must be in [0, 1), got {self.momentum:g}")
        _check(self.momentum > 0 or not self.nesterov, "nesterov needs momentum above 0")


@dataclass(frozen=True)
class AdamW(Optim):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(all(0 <= b < 1 for b in self.betas), f"betas must be in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from `warmup_start` times the learning rate during `warmup_steps` steps, capping what follows."""

    warmup_steps: int = 0
    warmup_start: float = 0.0

    def __post_init__(self) -> None:
        _count("warmup_steps", self.warmup_steps, 0)
        _check(0 <= self.warmup_start <= 1, f"warmup_start must be in [0, 1], got {self.warmup_start:g}")


@dataclass(frozen=True)
class Constant(Schedule):
    pass


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Times `gamma` at each of `milestones`, fractions of the run."""

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = all(0 < m <= 1 for m in self.milestones) and list(self.milestones) == sorted(self.milestones)
        _check(fine, f"milestones are rising fractions of the run in (0, 1], got {list(self.milestones)}")
        _check(0 < self.gamma <= 1, f"gamma must be in (0, 1], got {self.gamma:g}")


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine down to `final` times the learning rate."""

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final:g}")


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosine up from `start` times the learning rate until the fraction `peak` of the run, cosine down to `final`."""

    peak: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 < self.peak < 1, f"peak must be in (0, 1), got {self.peak:g}")
        _check(0 <= self.start <= 1, f"start must be in [0, 1], got {self.start:g}")
        _check(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final:g}")


@dataclass(frozen=True)
class Cyclic(Schedule):
    """A triangle: linear up from 0 until the fraction `peak` of the run, linear down to 0. Wong et al., ICLR 2020."""

    peak: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 < self.peak < 1, f"peak must be in (0, 1), got {self.peak:g}")


@dataclass(frozen=True)
class Validation:
    """Every `every` epochs and at the end: clean and PGD-`steps` accuracy on `images` held-out training images.

    The best checkpoint is that of highest `select` accuracy: `robust` on the adversarial route, or `clean` on the first,
    by default for the method `standard` alone; the other one decides between equals. With `gap`, also PGD accuracy on as many training images, for as much time again.
    """

    images: int = 1000
    every: int = 1
    steps: int = 10
    select: Literal["robust", "clean"] | None = None
    gap: bool = True

    def __post_init__(self) -> None:
        _count("images", self.images)
        _count("every", self.every)
        _count("steps", self.steps)


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
        _count("images", self.images)
        _count("steps", self.steps)
        _count("autoattack", self.autoattack)
        _count("batch_size", self.batch_size)

    @property
    def asked(self) -> list[int | None]:
        """What the closing table depends on besides the weights."""
        return [self.images, self.steps, self.autoattack]


OPTIMISERS: Mapping[str, type[Optim]] = {"sgd": Sgd, "adamw": AdamW}
SCHEDULES: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "multistep": MultiStep,
    "cosine": Cosine,
    "one-cycle": OneCycle,
    "cyclic": Cyclic,
}


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    `model` is a name of the registry or a model specification, `model_options` its arguments, `weights` a file to start
    from, all but the last layer with `fresh_head`. `norm` is a preset of routed normalisation, or `none` for the model as it is. The run is `epochs` long, or
    `steps` when given. `batch_size` counts all processes together; the last images of an epoch that do not fill a batch
    wait for the next one. Each process takes its share in `accumulate` parts one after the other. `ema` is the decay of an average of the weights, `swa` says of which epochs to take an equal
    average; both are evaluated and kept besides. `images` trains on a fixed subset of that size, and `download` fetches a published set that is missing.
    """

    model: str = "resnet-digits"
    model_options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    fresh_head: bool = False
    data: str = "digits"
    download: bool = False
    images: int | None = None
    extra: Extra | None = None
    augment: Augment = field(default_factory=Augment)

    norm: Literal["none", "bn", "ccbn", "sabn", "auxbn", "saauxbn"] = "saauxbn"
    routes: tuple[str, ...] = ("clean", "adv")
    init: Literal["identity", "paper"] = "identity"
    sync_bn: bool = False

    method: Method = field(default_factory=Paired, metadata=choices(METHODS))
    attack: Attack = field(default_factory=Attack)
    label_smoothing: float = 0.0

    optim: Optim = field(default_factory=Sgd, metadata=choices(OPTIMISERS))
    schedule: Schedule = field(default_factory=Cosine, metadata=choices(SCHEDULES))
    epochs: int = 20
    steps: int | None = None
    batch_size: int = 128
    accumulate: int = 1
    ema: float | None = None
    swa: Swa | None = None
    seed: int = 0

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = True
    compile: bool = False
    channels_last: bool = False

    validation: Validation = field(default_factory=Validation)
    test: Test = field(default_factory=Test)
    log_every: int = 10
    checkpoint_every: int | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        _count("images", self.images)
        _count("epochs", self.epochs)
        _count("steps", self.steps)
        _count("batch_size", self.batch_size)
        _count("accumulate", self.accumulate)
        _count("log_every", self.log_every)
        _count("checkpoint_every", self.checkpoint_every)
        _count("seed", self.seed, 0)
        _check(self.ema is None or 0 <= self.ema < 1, f"ema must be in [0, 1), such as 0.995; got {self.ema}")
        fine = self.weights is not None or not self.fresh_head
        _check(fine, "fresh_head leaves out the last layer of weights, which is missing; give weights=FILE")
        named = type(self.method).__name__
        _check(
            is_dataclass(self.method),
            f"method: {named} is no dataclass; put @dataclass(frozen=True) above it",
        )
        smoothing = self.label_smoothing
        _check(0 <= smoothing < 1, f"label_smoothing must be in [0, 1), got {smoothing:g}")
        self._check_extra()
        self._check_method("label_smoothing", smoothing > 0, "smooths")
        self._check_method("augment.mix", self.augment.mix != "none", "mixes")
        fine = self.augment.mix == "none" or self.attack.loss in (None, "ce")
        _check(
            fine,
            f"augment.mix gives no single label, which attack.loss {self.attack.loss} needs; allowed: ce",
        )
        wrong = what_is_wrong(self.routes)
        _check(
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
        given = [f"augment.mix={mix}"] * (mix != "none") + [f"label_smoothing={smoothing:g}"] * (
            smoothing > 0
        )
        return " with ".join(given)

    def _check_extra(self) -> None:
        if self.extra is None:
            return
        fine = self.extra.data != self.data
        _check(
            fine,
            f"extra.data is {self.data}, the training data, of which images are held out; name another set",
        )
        found = self.extra.count(self.batch_size)
        fine = 0 < found < self.batch_size
        words = f"extra.fraction {self.extra.fraction:g} of batch_size {self.batch_size} is {found} images"
        _check(fine, f"{words}; choose one that leaves some of both sets")

    def _check_method(self, key: str, wanted: bool, attribute: str) -> None:
        able = ", ".join(name for name, cls in METHODS.items() if getattr(cls, attribute, False))
        fine = not wanted or getattr(self.method, attribute, False)
        _check(fine, f"{key} is not for this method; methods with it: {able}")
