"""The keys of every training recipe: defaults, ranges, and whether a resumed run may change them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from robustsabn.config.checks import check, count

__all__ = [
    "OPTIMISERS",
    "SCHEDULES",
    "AdamW",
    "Augment",
    "Constant",
    "Cosine",
    "Cyclic",
    "Extra",
    "MultiStep",
    "OneCycle",
    "Optim",
    "RunConfig",
    "Schedule",
    "Sgd",
    "Swa",
    "Validation",
    "at_start",
    "fixed",
    "fixed_choice",
    "free",
    "resume_rule",
]

Rule = Literal["fixed", "free", "at start"]


def fixed() -> dict[str, Rule]:
    """Metadata of a field that a resumed run cannot change, because stored tensors would not fit."""
    return {"resume": "fixed"}


def free() -> dict[str, Rule]:
    """Metadata of a field that does not affect training."""
    return {"resume": "free"}


def at_start() -> dict[str, Rule]:
    """Metadata of a field that is read only when a run begins, not when it is resumed."""
    return {"resume": "at start"}


def fixed_choice() -> dict[str, Rule]:
    """Metadata of a field that selects one of several dataclasses, which a resumed run cannot change."""
    return {"resume name": "fixed"}


def resume_rule(config: Any, key: str) -> Rule | None:
    """The rule for resuming with another value of the dotted `key`; None: allowed and reported.

    `config` is a configuration or its class.
    """
    for name, rest in zip(key.split("."), [*key.split(".")[1:], ""], strict=True):
        if not is_dataclass(config):
            return None
        own = next((f for f in fields(config) if f.name == name), None)
        if own is None:
            return None
        rule: Rule | None = own.metadata.get(
            "resume name" if rest == "name" else "resume"
        ) or own.metadata.get("resume")
        if rule is not None:
            return rule
        config = getattr(config, name, None)
    return None


@dataclass(frozen=True)
class Augment:
    """Random crops of the image padded by `crop` pixels, and horizontal flips; then `mix`.

    `mix` combines each image and its label with another one of the batch, with weights from Beta(mix_alpha,
    mix_alpha).
    """

    crop: int = 0
    flip: bool = False
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_alpha: float = 1.0

    def __post_init__(self) -> None:
        count("crop", self.crop, 0)
        check(self.mix_alpha > 0, f"mix_alpha must be positive, got {self.mix_alpha:g}")


@dataclass(frozen=True)
class Extra:
    """Additional training images, such as generated ones: a `fraction` of every batch is from `data`.

    `data` is a data set: its training part, or all of it if it has no parts. Gowal et al., NeurIPS 2021, use
    fraction 0.7.
    """

    data: str
    fraction: float = 0.7

    def __post_init__(self) -> None:
        check(0 < self.fraction < 1, f"fraction is a share of the batch in (0, 1), got {self.fraction:g}")

    def count(self, batch_size: int) -> int:
        """The number of extra images in a batch."""
        return int(self.fraction * batch_size + 0.5)


@dataclass(frozen=True)
class Swa:
    """Stochastic weight averaging: the equal mean of the weights at the ends of epochs.

    It takes every `every`-th epoch from the fraction `start` of the run on, and the end of the run. Its
    running statistics are estimated on `batches` training batches, at most one epoch.
    """

    start: float = 0.75
    every: int = 1
    batches: int = 50

    def __post_init__(self) -> None:
        check(0 <= self.start <= 1, f"start is a fraction of the run in [0, 1], got {self.start:g}")
        count("every", self.every)
        count("batches", self.batches)


@dataclass(frozen=True)
class Optim:
    """Learning rate (peak of the schedule), weight decay and maximum L2 norm `clip` of the gradient.

    `decay: weights` does not decay biases, affines of norms (also those of routes) and other vectors.
    """

    lr: float = 0.1
    weight_decay: float = 5e-4
    decay: Literal["all", "weights"] = field(default="all", metadata=fixed())
    clip: float | None = None

    def __post_init__(self) -> None:
        check(self.lr > 0, f"lr must be positive, got {self.lr:g}")
        check(self.weight_decay >= 0, f"weight_decay must be at least 0, got {self.weight_decay:g}")
        check(self.clip is None or self.clip > 0, f"clip must be positive, got {self.clip}")


@dataclass(frozen=True)
class Sgd(Optim):
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.momentum < 1, f"momentum must be in [0, 1), got {self.momentum:g}")
        check(self.momentum > 0 or not self.nesterov, "nesterov needs momentum above 0")


@dataclass(frozen=True)
class AdamW(Optim):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(all(0 <= b < 1 for b in self.betas), f"betas must be in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup_steps` steps from `warmup_start` times the learning rate.

    During it, the rate never exceeds the warm-up ramp.
    """

    warmup_steps: int = 0
    warmup_start: float = 0.0

    def __post_init__(self) -> None:
        count("warmup_steps", self.warmup_steps, 0)
        check(0 <= self.warmup_start <= 1, f"warmup_start must be in [0, 1], got {self.warmup_start:g}")


@dataclass(frozen=True)
class Constant(Schedule):
    pass


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Multiply by `gamma` at each of `milestones`, which are fractions of the run."""

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = all(0 < m <= 1 for m in self.milestones) and list(self.milestones) == sorted(self.milestones)
        check(valid, f"milestones are rising fractions of the run in (0, 1], got {list(self.milestones)}")
        check(0 < self.gamma <= 1, f"gamma must be in (0, 1], got {self.gamma:g}")


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine, from the learning rate down to `final` times it."""

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final:g}")


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosine up from `start` times the learning rate to 1 at the fraction `peak`, then down to `final`."""

    peak: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.peak < 1, f"peak must be in (0, 1), got {self.peak:g}")
        check(0 <= self.start <= 1, f"start must be in [0, 1], got {self.start:g}")
        check(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final:g}")


@dataclass(frozen=True)
class Cyclic(Schedule):
    """A triangle: linear from 0 up to the fraction `peak` of the run, then down to 0.

    Wong et al., ICLR 2020.
    """

    peak: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.peak < 1, f"peak must be in (0, 1), got {self.peak:g}")


@dataclass(frozen=True)
class Validation:
    """Validate every `every` epochs and at the end, on `images` held-out images of the training set."""

    images: int = 1000
    every: int = 1

    def __post_init__(self) -> None:
        count("images", self.images)
        count("every", self.every)


OPTIMISERS: Mapping[str, type[Optim]] = {"sgd": Sgd, "adamw": AdamW}
SCHEDULES: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "multistep": MultiStep,
    "cosine": Cosine,
    "one-cycle": OneCycle,
    "cyclic": Cyclic,
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings that every training run has, for any task.

    A run is `epochs` long, or `steps` if set. `batch_size` counts all processes together; an incomplete last
    batch of an epoch is dropped. `images` trains on a fixed subset of that size, and `download` fetches a
    missing public data set. `task` is the kind of training. `ema` is the decay of an exponential average of
    the weights.
    """

    task: str = field(default="adversarial", metadata=fixed())
    data: str = "digits"
    download: bool = field(default=False, metadata=free())
    images: int | None = None
    epochs: int = 20
    steps: int | None = None
    batch_size: int = 128
    ema: float | None = None
    seed: int = 0

    device: Literal["auto", "cpu"] = field(default="auto", metadata=free())
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = True
    compile: bool = False
    channels_last: bool = False

    validation: Validation = field(default_factory=Validation)
    log_every: int = field(default=10, metadata=free())
    checkpoint_every: int | None = field(default=None, metadata=free())
    out: str | None = field(default=None, metadata=free())

    def __post_init__(self) -> None:
        for name in ("images", "epochs", "steps", "batch_size", "log_every", "checkpoint_every"):
            count(name, getattr(self, name))
        count("seed", self.seed, 0)
        check(self.ema is None or 0 <= self.ema < 1, f"ema must be in [0, 1), such as 0.995; got {self.ema}")

    @property
    def step_images(self) -> int:
        """Training images per step, over all processes."""
        return self.batch_size
