"""What a run of a class-conditional GAN is made of: the keys of a recipe, their defaults and ranges."""

from dataclasses import dataclass, field
from typing import Any, Literal

from robustsabn.config import choices
from robustsabn.config.checks import check, count
from robustsabn.trainers.config import (
    SCHEDULES,
    AdamW,
    Constant,
    RunConfig,
    Schedule,
    Validation,
    fixed,
    fixed_choice,
    free,
)

__all__ = ["Adam", "DiffAugment", "GanConfig", "GanTest", "GanValidation"]


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam as GANs are trained with it: no momentum, no weight decay."""

    lr: float = 2e-4
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.0, 0.9)


@dataclass(frozen=True)
class DiffAugment:
    """What the discriminator sees of real and generated images alike: Zhao et al., NeurIPS 2020; nothing is changed by default.

    `translation`: shifted by up to that share of the size, 0.125 in the paper. `cutout`: a grey square whose side is that
    share of the size, 0.5 in the paper. `colour`: brightness, saturation and contrast.
    """

    translation: float = 0.0
    cutout: float = 0.0
    colour: bool = False

    def __post_init__(self) -> None:
        for name in ("translation", "cutout"):
            value = getattr(self, name)
            check(0 <= value < 1, f"{name} is a share of the image's size in [0, 1), got {value:g}")


@dataclass(frozen=True)
class GanValidation(Validation):
    """Every `every` epochs and at the end: the Fréchet distance of `images` generated ones from the training images.

    The best checkpoint is that of smallest distance. No image is held out.
    """

    every: int = 10


@dataclass(frozen=True)
class GanTest:
    """The closing table: distances, class accuracy and diversity of `images` generated ones."""

    images: int = 1000

    def __post_init__(self) -> None:
        count("images", self.images)


@dataclass(frozen=True, kw_only=True)
class GanConfig(RunConfig):
    """A class-conditional GAN.

    `model` is a pair of generator and discriminator by name, or path/to/file.py:FUNCTION, a function of (num_classes, norm)
    and the `model_options` that returns both. A step is `d_steps` updates of the discriminator, each with `batch_size` real images
    and as many generated ones, and one of the generator with `g_batch_size` images (`batch_size` by default).
    Generated images have classes drawn uniformly; under the gradient penalty, which looks between a real image and a
    generated one, those of the real ones. `flip` mirrors half of the real images.

    `ema` is the decay of an average of the generator's weights, `ema_statistics` says what its batch norms normalise with: the
    running statistics of the generator (`live`), an average of these (`averaged`), or those of `standing_batches` batches of
    its own images, re-estimated before each evaluation (`standing`). `sync_bn` takes batch statistics over all processes,
    so that a run does not depend on their number.
    """

    task: str = field(default="gan", metadata=fixed())
    model: str = field(default="digits", metadata=fixed())
    model_options: dict[str, Any] = field(default_factory=dict, metadata=fixed())
    norm: Literal["bn", "ccbn", "sabn", "ccin", "sain"] = field(default="sabn", metadata=fixed())
    sync_bn: bool = True

    loss: Literal["hinge", "non-saturating", "wasserstein-gp"] = "hinge"
    gradient_penalty: float = 10.0
    d_steps: int = 1
    g_batch_size: int | None = None
    flip: bool = False
    augment: DiffAugment = field(default_factory=DiffAugment)

    generator: Adam = field(default_factory=Adam)
    discriminator: Adam = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Constant, metadata=choices(SCHEDULES) | fixed_choice())

    batch_size: int = 64
    ema: float | None = 0.999
    ema_statistics: Literal["live", "averaged", "standing"] = field(default="live", metadata=fixed())
    standing_batches: int = 16

    extractor: str | None = field(default=None, metadata=free())
    judge: str | None = field(default=None, metadata=free())
    validation: GanValidation = field(default_factory=GanValidation)
    test: GanTest = field(default_factory=GanTest, metadata=free())

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_steps", "g_batch_size", "standing_batches"):
            count(name, getattr(self, name))
        penalty = self.gradient_penalty
        check(penalty >= 0, f"gradient_penalty must be at least 0, got {penalty:g}")
        fine = not self.compile or self.loss != "wasserstein-gp"
        check(
            fine,
            "compile: torch differentiates no compiled network twice, as wasserstein-gp does; leave it out",
        )

    @property
    def step_images(self) -> int:
        """Real images of a step, of all processes together."""
        return self.d_steps * self.batch_size


CONFIG = GanConfig
