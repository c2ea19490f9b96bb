"""The keys of a recipe for style transfer, with defaults and ranges."""

from dataclasses import dataclass, field
from typing import Literal

from robustsabn.config import choices
from robustsabn.config.checks import check, count
from robustsabn.trainers.config import (
    SCHEDULES,
    AdamW,
    InverseTime,
    RunConfig,
    Schedule,
    Validation,
    at_start,
    fixed,
    fixed_choice,
)

__all__ = ["Adam", "StyleConfig", "StyleValidation"]


@dataclass(frozen=True)
class Adam(AdamW):
    """Adam with the learning rate of AdaIN, without weight decay."""

    lr: float = 1e-4
    """Learning rate, before the schedule."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""


@dataclass(frozen=True)
class StyleValidation(Validation):
    """Validate every `every` epochs and at the end, on `images` fixed pairs of held-out pictures."""

    images: int = 32
    """Pairs of pictures."""
    every: int = 1
    """Epochs between two validations."""


@dataclass(frozen=True, kw_only=True)
class StyleConfig(RunConfig):
    """The configuration of a run of style transfer; docs/keys/style.md has every key.

    `data` and `styles` are folders of pictures, with or without subfolders, or embedded pictures: photos, and
    textures that are drawn by code. Of a folder with the subfolders train and val, val is held out; else a
    tenth of the pictures, at least one. The central square of a picture is used. An epoch has one crop of
    every content picture, and at least 100 steps.

    The loss is `content_weight` times the content loss plus `style_weight` times the style loss. In the first
    part of the run, the share `reconstruct` of it, the decoder learns to reconstruct the content instead:
    `pixel_weight` times the squared error of the pixels replaces the style loss.
    """

    task: str = field(default="style", metadata=fixed())
    data: str = "embedded"
    """Content pictures: a folder, or embedded (three photos of scikit-learn and matplotlib)."""
    styles: str = "embedded"
    """Style pictures: a folder, a file, or embedded:N (N drawn textures; 60 without a number)."""
    size: int = 512
    """Shorter side that pictures of a folder are resized to, in pixels."""
    crop: int = 256
    """Side of the training crops, in pixels."""
    largest: int | None = None
    """Side of the largest square that is resized to a crop; none: `crop`."""

    encoder: str = "random"
    """Encoder: random, vgg_normalised:FILE, vgg16:FILE, vgg19:FILE, or path/to/file.py:FUNCTION."""
    scale_channels: bool | None = field(default=None, metadata=fixed())
    """Scale the encoder's channels to a mean of 1; none: of all encoders but vgg_normalised."""
    tap: str | None = field(default=None, metadata=fixed())
    """Tap of the encoder where the norm acts, such as relu4_1; none: the last."""
    style_taps: tuple[str, ...] | None = None
    """Taps of the style loss; none: all."""
    norm: Literal["adain", "saadain", "ilm", "routes"] = field(default="saadain", metadata=fixed())
    """How a style is given: statistics of its picture, or a route for each picture of `styles`."""
    start: str | None = field(default=None, metadata=at_start())
    """Run with norm routes to add `styles` to; nothing but their routes is trained."""

    content_weight: float = 1.0
    """Weight of the content loss."""
    style_weight: float = 10.0
    """Weight of the style loss."""
    faithful: bool = False
    """Let gradients flow into the target of the content loss, as the official code of SaAdaIN does."""
    reconstruct: float = 0.0
    """Share of the run in which the decoder learns to reconstruct the content; 0 with `start`."""
    pixel_weight: float = 10.0
    """Weight of the error of the pixels in that part of the run."""

    batch_size: int = 8
    optim: Adam = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=InverseTime, metadata=choices(SCHEDULES) | fixed_choice())
    """Learning rate over the run."""
    validation: StyleValidation = field(default_factory=StyleValidation)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "crop", "largest"):
            count(name, getattr(self, name), 16)
        for name in ("content_weight", "style_weight", "pixel_weight"):
            value = getattr(self, name)
            check(value >= 0, f"{name} must be at least 0, got {value:g}")
        check(0 <= self.reconstruct < 1, f"reconstruct is a share in [0, 1), got {self.reconstruct:g}")
        check(
            self.largest is None or self.largest >= self.crop,
            f"largest must be at least crop={self.crop}, got {self.largest}",
        )
        if self.start is not None:
            check(self.norm == "routes", "start: only a network with norm=routes takes further styles")
            decay = self.optim.weight_decay
            check(
                decay == 0,
                f"start: the other styles must not change, so optim.weight_decay is 0, not {decay:g}",
            )

    @property
    def largest_crop(self) -> int:
        """The side of the largest crop, in pixels."""
        return self.largest or self.crop


CONFIG = StyleConfig
