"""The keys of every training recipe: defaults, ranges, and whether a resumed run may change them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from robustsabn.config.checks import check, count
from robustsabn.trainers.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Cyclic,
    InverseTime,
    MultiStep,
    OneCycle,
    Schedule,
)

__all__ = [
    "OPTIMISERS",
    "SCHEDULES",
    "Adam",
    "AdamW",
    "Augment",
    "Constant",
    "Cosine",
    "Cyclic",
    "Extra",
    "InverseTime",
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
    """Pad by this many pixels on each side and crop at random; 0: no crop."""
    flip: bool = False
    """Flip half of the images horizontally."""
    mix: Literal["none", "cutmix", "mixup"] = "none"
    """Combine each image and its label with another image of the batch. Loss and attack use the mixed labels;
    training accuracy counts the larger share. For methods that take mixed labels, with attack.loss ce."""
    mix_alpha: float = 1.0
    """The shares of the two images are from Beta(mix_alpha, mix_alpha), drawn for each image."""

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
    """The second data set, written as `data`."""
    fraction: float = 0.7
    """Its share of every batch, rounded to whole images."""

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
    """The fraction of the run after which weights are averaged."""
    every: int = 1
    """Epochs between two weights that are averaged."""
    batches: int = 50
    """Training batches that the running statistics of the average are estimated on, at most one pass."""

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
    """Learning rate: the peak of the schedule."""
    weight_decay: float = 5e-4
    """Weight decay."""
    decay: Literal["all", "weights"] = field(default="all", metadata=fixed())
    """What decays: all parameters, or weights only, without biases, affines and other vectors."""
    clip: float | None = None
    """Largest L2 norm of the gradient; none: no clipping."""

    def __post_init__(self) -> None:
        check(self.lr > 0, f"lr must be positive, got {self.lr:g}")
        check(self.weight_decay >= 0, f"weight_decay must be at least 0, got {self.weight_decay:g}")
        check(self.clip is None or self.clip > 0, f"clip must be positive, got {self.clip}")


@dataclass(frozen=True)
class Sgd(Optim):
    momentum: float = 0.9
    """Momentum."""
    nesterov: bool = False
    """Nesterov's momentum; needs momentum above 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.momentum < 1, f"momentum must be in [0, 1), got {self.momentum:g}")
        check(self.momentum > 0 or not self.nesterov, "nesterov needs momentum above 0")


@dataclass(frozen=True)
class AdamW(Optim):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(all(0 <= b < 1 for b in self.betas), f"betas must be in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam, whose weight decay is part of the gradient, as an L2 penalty."""


@dataclass(frozen=True)
class Validation:
    """Validate every `every` epochs and at the end, on `images` held-out images of the training set."""

    images: int = 1000
    """Images of a validation, held out of training: at most a tenth of it. Sets with a validation part, such
    as digits, use their own."""
    every: int = 1
    """Epochs between validations; there is always one at the end."""

    def __post_init__(self) -> None:
        count("images", self.images)
        count("every", self.every)


OPTIMISERS: Mapping[str, type[Optim]] = {"sgd": Sgd, "adamw": AdamW}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings that every training run has, for any task.

    A run is `epochs` long, or `steps` if set. `batch_size` counts all processes together; an incomplete last
    batch of an epoch is dropped. `images` trains on a fixed subset of that size, and `download` fetches a
    missing public data set. `task` is the kind of training. `ema` is the decay of an exponential average of
    the weights.
    """

    task: str = field(default="adversarial", metadata=fixed())
    """Kind of training: a name, or a class of your own as path/to/file.py:CLASS."""
    data: str = "digits"
    """Data set: digits, cifar10[:ROOT], cifar100, svhn, mnist, fashionmnist, imagefolder:PATH, npz:PATH,
    file.py:FUNCTION."""
    download: bool = field(default=False, metadata=free())
    """Download a public data set that is missing."""
    images: int | None = None
    """Train on a fixed subset of this many images; none: on all."""
    epochs: int = 20
    """Passes over the training images."""
    steps: int | None = None
    """Length of the run in steps, which replaces `epochs`."""
    batch_size: int = 128
    """Images of a batch, of all processes together; an incomplete last batch of an epoch is dropped."""
    ema: float | None = None
    """Decay of averaged weights, such as 0.995: e <- d e + (1 - d) p after step t, with
    d = min(ema, (1 + t) / (10 + t))."""
    seed: int = 0
    """Seed of everything that is random in the run."""

    device: Literal["auto", "cpu"] = field(default="auto", metadata=free())
    """`auto` takes a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """`bf16` and `fp16` run forwards under autocast; `fp16` needs a GPU."""
    tf32: bool = True
    """Matrix products and convolutions in TF32 on GPUs that have it, in training and validation;
    never in tests."""
    compile: bool = False
    """Train through torch.compile; see [compilation](../training.md#compilation)."""
    channels_last: bool = False
    """Keep images and weights in the channels-last memory format."""

    validation: Validation = field(default_factory=Validation)
    analysis: int | None = field(default=None, metadata=free())
    """At each validation also [analyse the routes](../analysis.md#during-training) on this many images;
    none: not at all."""
    log_every: int = field(default=10, metadata=free())
    """Steps between two lines of the log."""
    checkpoint_every: int | None = field(default=None, metadata=free())
    """Steps between checkpoints, in addition to those after each epoch and validation."""
    trackers: tuple[str, ...] = field(default=(), metadata=free())
    """Trackers of Accelerate that the run is [also shown in](../guides/watch.md#other-trackers): wandb,
    mlflow, trackio, …"""
    out: str | None = field(default=None, metadata=free())
    """The run folder; none: the next free one of runs/NAME, runs/NAME-2, ..."""

    def __post_init__(self) -> None:
        for name in ("images", "epochs", "steps", "batch_size", "analysis", "log_every", "checkpoint_every"):
            count(name, getattr(self, name))
        count("seed", self.seed, 0)
        check(self.ema is None or 0 <= self.ema < 1, f"ema must be in [0, 1), such as 0.995; got {self.ema}")

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that follow from the `given` ones where these are set alone."""
        return {}

    @property
    def step_images(self) -> int:
        """Training images per step, over all processes."""
        return self.batch_size
