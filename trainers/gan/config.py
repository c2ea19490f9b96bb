"""The keys of a recipe for a class-conditional GAN, with defaults and ranges."""

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
    """Adam with the usual settings for GANs: no momentum, no weight decay."""

    lr: float = 2e-4
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.0, 0.9)


@dataclass(frozen=True)
class DiffAugment:
    """Differentiable augmentation of all images that the discriminator sees; none by default.

    `translation`: the largest shift, as a share of the image size; 0.125 in the paper. `cutout`: the side of
    a grey square, as a share of the image size; 0.5 in the paper. `colour`: brightness, saturation and
    contrast. Zhao et al., NeurIPS 2020.
    """

    translation: float = 0.0
    """Largest shift, as a share of the image size."""
    cutout: float = 0.0
    """Side of a grey square, as a share of the image size."""
    colour: bool = False
    """Change brightness, saturation and contrast."""

    def __post_init__(self) -> None:
        for name in ("translation", "cutout"):
            value = getattr(self, name)
            check(0 <= value < 1, f"{name} is a share of the image's size in [0, 1), got {value:g}")


@dataclass(frozen=True)
class GanValidation(Validation):
    """Validate every `every` epochs and at the end by the Fréchet distance to the training images.

    `images` are generated. The best checkpoint has the smallest distance. No image is held out.
    """

    every: int = 10


@dataclass(frozen=True)
class GanTest:
    """The closing evaluation: distances, class accuracy and diversity of `images` generated images."""

    images: int = 1000
    """Generated images that are measured at the end."""

    def __post_init__(self) -> None:
        count("images", self.images)


@dataclass(frozen=True, kw_only=True)
class GanConfig(RunConfig):
    """The configuration of a run of a class-conditional GAN.

    `model` is the name of a pair of generator and discriminator, or path/to/file.py:FUNCTION, a function of
    (num_classes, norm) and the `model_options` that returns both. A step is `d_steps` updates of the
    discriminator, each with `batch_size` real and as many generated images, and one update of the generator
    with `g_batch_size` images (default: `batch_size`).

    The classes of generated images are drawn uniformly. With the gradient penalty, which is computed between
    a real and a generated image, they are those of the real images. `flip` mirrors half of the real images.

    `ema` is the decay of an average of the generator's weights. `ema_statistics` selects the running
    statistics of its batch norms: those of the generator (`live`), an average of these (`averaged`), or those
    of `standing_batches` batches of its own images, estimated before each evaluation (`standing`). `sync_bn`
    computes batch statistics over all processes, so that a run does not depend on their number.
    """

    task: str = field(default="gan", metadata=fixed())
    model: str = field(default="digits", metadata=fixed())
    """A pair of networks by name, or path/to/file.py:FUNCTION."""
    model_options: dict[str, Any] = field(default_factory=dict, metadata=fixed())
    """Options of the networks, such as width, d_width, latent_dim; arguments of FUNCTION."""
    norm: Literal["bn", "ccbn", "sabn", "ccin", "sain"] = field(default="sabn", metadata=fixed())
    """Norm of the generator; a class is a route."""
    sync_bn: bool = True
    """Batch statistics over all processes."""

    loss: Literal["hinge", "non-saturating", "wasserstein-gp"] = "hinge"
    """Loss of both networks."""
    gradient_penalty: float = 10.0
    """Weight of the gradient penalty of wasserstein-gp."""
    d_steps: int = 1
    """Updates of the discriminator before each update of the generator; all are one step."""
    g_batch_size: int | None = None
    """Images of an update of the generator; none: `batch_size`."""
    flip: bool = False
    """Flip half of the real images horizontally."""
    augment: DiffAugment = field(default_factory=DiffAugment)

    generator: Adam = field(default_factory=Adam)
    discriminator: Adam = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Constant, metadata=choices(SCHEDULES) | fixed_choice())
    """Learning rates of both networks over the run."""

    batch_size: int = 64
    ema: float | None = 0.999
    ema_statistics: Literal["live", "averaged", "standing"] = field(default="live", metadata=fixed())
    """Statistics of the averaged generator: its own, averaged ones, or ones estimated anew."""
    standing_batches: int = 16
    """Batches that `ema_statistics: standing` estimates on."""

    extractor: str | None = field(default=None, metadata=free())
    """Network whose features are compared; none: that of the digits, for digits."""
    judge: str | None = field(default=None, metadata=free())
    """Classifier that gives the class of an image; none: that of the digits, for digits."""
    validation: GanValidation = field(default_factory=GanValidation)
    test: GanTest = field(default_factory=GanTest, metadata=free())

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_steps", "g_batch_size", "standing_batches"):
            count(name, getattr(self, name))
        penalty = self.gradient_penalty
        check(penalty >= 0, f"gradient_penalty must be at least 0, got {penalty:g}")
        allowed = not self.compile or self.loss != "wasserstein-gp"
        check(
            allowed,
            "compile: torch cannot differentiate a compiled network twice, as wasserstein-gp does; "
            "leave it out",
        )

    @property
    def step_images(self) -> int:
        """Real images per step, over all processes."""
        return self.d_steps * self.batch_size


CONFIG = GanConfig
