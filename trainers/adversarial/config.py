"""The keys of a recipe for adversarial training, with defaults and ranges."""

from collections.abc import Mapping
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
    """The attack in training: PGD in the `norm` ball of radius `eps`, for images in [0, 1].

    If `steps`, `start` or `loss` are not set, training uses those of the method, and evaluation a uniform
    start and the cross-entropy. `step_size` defaults to 2.5 eps / steps. `bn_mode` selects the statistics of
    batch norms during the attack: `eval` uses running statistics; `train` uses batch statistics and updates
    the running ones, as the official code does; `frozen` uses batch statistics without updating. With `fold`,
    an attack in `eval` mode searches on a copy of the network whose batch norms are folded into other layers.
    The copy is updated every step, and used only in float32 and where it is safe.
    """

    norm: Literal["Linf", "L2", "L1"] = "Linf"
    """Norm of the ball of allowed perturbations."""
    eps: float = 8 / 255
    """Radius of the ball, for images in [0, 1]; the upper limit is that of Linf."""
    step_size: float | None = None
    """Step size of PGD; none: 2.5 eps / steps."""
    steps: int | None = None
    """Steps of PGD in training; none: those of the method."""
    start: Literal["uniform", "normal", "none"] | None = None
    """Where PGD starts; none: where the method does, and uniformly in evaluation."""
    loss: Literal["ce", "margin", "dlr"] | None = None
    """What PGD maximises; none: what the method does, and ce in evaluation."""
    bn_mode: Literal["eval", "train", "frozen"] = "eval"
    """Statistics of batch norms [during the attack](../training.md#bn_mode): running ones, or those of
    the batch with (train) or without (frozen) an update of the running ones."""
    fold: bool = True
    """With `bn_mode` eval, attack a copy of the network with its batch norms folded in, updated in each step;
    in float32 only, and not with `compile`."""

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
    """Validate every `every` epochs and at the end on `images` held-out training images.

    Clean accuracy and accuracy under PGD with `steps` steps are measured. The best checkpoint has the highest
    `select` accuracy: `robust` on the adversarial route, or `clean` on the first route. The default is
    `clean` for the method `standard` and `robust` for all others; ties are broken by the other accuracy. With
    `gap`, PGD accuracy is also measured on as many training images, which takes as long again.
    """

    steps: int = 10
    """Steps of PGD in a validation."""
    select: Literal["robust", "clean"] | None = None
    """Accuracy that chooses the best checkpoint; none: clean for the method standard, else robust."""
    gap: bool = True
    """Also attack as many training images, to see robust overfitting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        count("steps", self.steps)


@dataclass(frozen=True)
class Test:
    """The closing evaluation of the best checkpoint: PGD-`steps` on `images` test images (default: all).

    With `autoattack`, also standard AutoAttack on at most that many images, through the last route.
    """

    images: int | None = None
    """Test images of the final table; none: all."""
    steps: int = 20
    """Steps of PGD in the final table."""
    autoattack: int | None = None
    """Also run standard AutoAttack on at most this many images; none: not at all."""
    batch_size: int = 500
    """Images at a time in validation and tests."""

    def __post_init__(self) -> None:
        count("images", self.images)
        count("steps", self.steps)
        count("autoattack", self.autoattack)
        count("batch_size", self.batch_size)

    @property
    def protocol(self) -> list[int | None]:
        """Everything that the closing evaluation depends on besides the weights."""
        return [self.images, self.steps, self.autoattack]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """The configuration of a run of adversarial training; docs/keys/adversarial.md has every key.

    Raises ConfigError for a value that is not allowed.

    Example:

        >>> from robustsabn.trainers import TrainConfig
        >>> config = TrainConfig(norm="sabn", epochs=5)
        >>> config.routes, config.attack.norm
        (('clean', 'adv'), 'Linf')
    """

    model: str = field(default="resnet-digits", metadata=fixed())
    """Network: a registered name, path/to/file.py:FUNCTION, package.module:FUNCTION, torchvision:NAME
    or timm:NAME. Layers that FUNCTION returns in eval mode stay in it, unless all
    of them are."""
    model_options: dict[str, Any] = field(default_factory=dict, metadata=fixed())
    """Options of a registered network, such as mean and std."""
    weights: str | None = field(default=None, metadata=at_start())
    """A .safetensors or .pt file to start from."""
    fresh_head: bool = field(default=False, metadata=at_start())
    """Do not load the last layer of `weights`."""
    extra: Extra | None = None
    """A second data set, such as generated images, that fills a share of every batch."""
    augment: Augment = field(default_factory=Augment)

    norm: Literal["none", "bn", "ccbn", "sabn", "auxbn", "saauxbn"] = field(
        default="saauxbn", metadata=fixed()
    )
    """[Preset](../routing.md#maths-and-presets) of the routed norms; none: the network as it is."""
    routes: tuple[str, ...] = field(default=("clean", "adv"), metadata=fixed())
    """Names of the routes: clean images take the first, adversarial images the last."""
    init: Literal["identity", "paper"] = "identity"
    """Initial affines: those of the network, or new ones as in the official SaBN code."""
    sync_bn: bool = False
    """Batch statistics over all processes."""

    method: Method = field(default_factory=Paired, metadata=choices(METHODS))
    """[Training method](../methods.md), or a class of your own as path/to/file.py:CLASS."""
    attack: Attack = field(default_factory=Attack)
    label_smoothing: float = 0.0
    """Smoothing of the labels in the training loss, for methods that support it."""

    optim: Optim = field(default_factory=Sgd, metadata=choices(OPTIMISERS) | fixed_choice())
    """Optimiser."""
    schedule: Schedule = field(default_factory=Cosine, metadata=choices(SCHEDULES))
    """Learning rate over the run."""
    accumulate: int = 1
    """Parts in which each process computes its share of a batch, one after the other: less memory, the same
    gradient. Refused with batch norm, and with methods of several gradients in a step."""
    swa: Swa | None = None
    """Stochastic weight averaging: an equal average of the weights at the ends of epochs."""

    validation: RobustValidation = field(default_factory=RobustValidation)
    test: Test = field(default_factory=Test, metadata=free())

    def __post_init__(self) -> None:
        super().__post_init__()
        count("accumulate", self.accumulate)
        has_weights = self.weights is not None or not self.fresh_head
        check(
            has_weights,
            "fresh_head leaves out the last layer of weights, which is missing; give weights=FILE",
        )
        class_name = type(self.method).__name__
        check(
            is_dataclass(self.method),
            f"method: {class_name} is no dataclass; put @dataclass(frozen=True) above it",
        )
        complete(type(self.method), f"method {class_name}")
        smoothing = self.label_smoothing
        check(0 <= smoothing < 1, f"label_smoothing must be in [0, 1), got {smoothing:g}")
        self._check_extra()
        self._check_method("label_smoothing", smoothing > 0, "smooths")
        self._check_method("augment.mix", self.augment.mix != "none", "mixes")
        loss_fits = self.augment.mix == "none" or self.attack.loss in (None, "ce")
        check(
            loss_fits,
            f"augment.mix makes soft labels, but attack.loss {self.attack.loss} needs single ones; "
            "allowed: ce",
        )
        wrong = what_is_wrong(self.routes)
        check(
            not wrong,
            f"routes are distinct names such as clean, adv: {wrong}; got {quote(list(self.routes))}",
        )

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """A method that trains one route, without a norm beside it, means the network as it is."""
        method = given.get("method")
        name = method.get("name") if isinstance(method, Mapping) else method
        known = METHODS.get(name) if isinstance(name, str) and name in list(METHODS) else type(name)
        one_route = getattr(known, "trains", None) is not None
        return {"norm": "none"} if one_route and "norm" not in given else {}

    @property
    def by_robustness(self) -> bool:
        """Whether the best checkpoint is chosen by robust accuracy instead of clean accuracy."""
        if self.validation.select is None:
            return not isinstance(self.method, Standard)
        return self.validation.select == "robust"

    @property
    def soft_labels(self) -> str:
        """The settings that make labels soft, written as overrides; "" if there are none."""
        mix, smoothing = self.augment.mix, self.label_smoothing
        settings = [f"augment.mix={mix}"] * (mix != "none")
        settings += [f"label_smoothing={smoothing:g}"] * (smoothing > 0)
        return " with ".join(settings)

    def _check_extra(self) -> None:
        if self.extra is None:
            return
        different = self.extra.data != self.data
        check(
            different,
            f"extra.data is {self.data}, the training data, from which images are held out; name another set",
        )
        number = self.extra.count(self.batch_size)
        words = f"extra.fraction {self.extra.fraction:g} of batch_size {self.batch_size} is {number} images"
        check(0 < number < self.batch_size, f"{words}; choose one that leaves some of both sets")

    def _check_method(self, key: str, wanted: bool, trait: Literal["smooths", "mixes"]) -> None:
        able = ", ".join(name for name, cls in METHODS.items() if getattr(cls, trait))
        allowed = not wanted or getattr(self.method, trait)
        check(allowed, f"{key} is not for this method; methods with it: {able}")


CONFIG = TrainConfig
