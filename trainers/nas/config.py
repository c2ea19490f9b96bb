"""The keys of a recipe for weight-sharing architecture search, with defaults and ranges."""

from dataclasses import dataclass, field
from typing import Literal

from robustsabn.config import choices
from robustsabn.config.checks import check, count
from robustsabn.trainers.config import (
    SCHEDULES,
    Adam,
    Augment,
    Cosine,
    RunConfig,
    Schedule,
    Sgd,
    Validation,
    fixed,
    fixed_choice,
    free,
)

__all__ = ["ArchitectureAdam", "NasConfig", "NasTest", "NasValidation", "WeightsSgd"]


@dataclass(frozen=True)
class WeightsSgd(Sgd):
    """SGD of the weights, with the settings of NAS-Bench-201."""

    lr: float = 0.025
    nesterov: bool = True
    clip: float | None = 5.0


@dataclass(frozen=True)
class ArchitectureAdam(Adam):
    """Adam of the architecture parameters, with the settings of DARTS."""

    lr: float = 3e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3


@dataclass(frozen=True)
class NasValidation(Validation):
    """Every `every` epochs and at the end, measure on `images` images that are used for nothing else.

    Measured are the accuracy of the mixture and, if there is a table, how well the accuracies of single paths
    of the supernet rank `cells` random cells, the same in every validation and run.
    """

    cells: int = 100
    """Random cells whose ranks by the supernet and by the table are compared, the same in every run."""
    batch_size: int = 250
    """Images of a batch; with statistics=batch, accuracies depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        count("cells", self.cells, 100)
        count("batch_size", self.batch_size)


@dataclass(frozen=True)
class NasTest:
    """The closing evaluation: the found cell in the table.

    If `epochs` is given, the cell is also trained from scratch for so many epochs, with `seeds` seeds.
    """

    epochs: int | None = None
    """Train the found cell from scratch for this many epochs; none: do not."""
    seeds: int = 2
    """Networks that are trained from scratch."""

    def __post_init__(self) -> None:
        count("epochs", self.epochs)
        count("seeds", self.seeds)


@dataclass(frozen=True, kw_only=True)
class NasConfig(RunConfig):
    """The configuration of a search in the cells of NAS-Bench-201; docs/nas.md describes it."""

    task: str = field(default="nas", metadata=fixed())
    search: Literal["darts", "darts-second-order", "gdas", "random-sharing", "random"] = field(
        default="darts", metadata=fixed()
    )
    """How to search; random-sharing is random search with shared weights, random trains each cell."""
    candidates: int = field(default=100, metadata=fixed())
    """Cells among which random-sharing chooses, by their accuracy on images of the architecture."""
    trial_epochs: int = field(default=5, metadata=fixed())
    """Epochs for which random trains each cell."""
    norm: Literal["bn", "bn-affine", "ccbn", "sabn"] = field(default="sabn", metadata=fixed())
    """Norms in the cells: without affine, with one, with one for each choice of operations before the norm,
    or with a shared one before these."""
    routes: Literal["sampled", "blended"] = "sampled"
    """The operations before a norm are drawn from the architecture weights, in every cell and step; or the
    affines of all choices are mixed by these weights."""
    statistics: Literal["batch", "running"] = field(default="batch", metadata=fixed())
    """Statistics of the norms in evaluations: those of the batch, or running ones."""
    sync_bn: bool = True
    """Compute statistics of the batch over all processes."""
    faithful: bool = False
    """The behaviour of the published code: routes are sampled in evaluations too, and the norms behind the
    input of the first cell are as all others."""
    channels: int = field(default=16, metadata=fixed())
    """Channels of the first stage; the second has twice, the third four times as many."""
    cells: int = field(default=5, metadata=fixed())
    """Cells of each of the three stages."""
    reduction: Literal["resnet", "pool"] = field(default="resnet", metadata=fixed())
    """Blocks between stages: residual ones, or average pooling and a 1x1 convolution."""

    division: str = "train"
    """Images of the architecture: train, half of the training images; test, half of the test images;
    validation, the validation images; or a split file of NAS-Bench-201."""
    augment: Augment = field(default_factory=Augment)
    weights: WeightsSgd = field(default_factory=WeightsSgd)
    architecture: ArchitectureAdam = field(default_factory=ArchitectureAdam)
    schedule: Schedule = field(
        default_factory=lambda: Cosine(final=0.04), metadata=choices(SCHEDULES) | fixed_choice()
    )
    """Learning rate of the weights over the run."""
    schedule_epochs: int | None = None
    """Length of the schedule in epochs, if the run is to end before it."""
    epochs: int = 50
    batch_size: int = 64

    table: str | None = field(default=None, metadata=free())
    """Accuracies of trained cells: a CSV file, a folder of NATS-Bench, or digits-hard."""
    dataset: str | None = field(default=None, metadata=free())
    """The data set of the table that ranks are of; none: the one that is named as `data`."""
    validation: NasValidation = field(default_factory=NasValidation)
    test: NasTest = field(default_factory=NasTest, metadata=free())

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("candidates", "trial_epochs", "channels", "cells", "schedule_epochs"):
            count(name, getattr(self, name))
        longer = self.schedule_epochs is None or self.schedule_epochs >= self.epochs
        check(longer, f"schedule_epochs {self.schedule_epochs} is less than epochs, {self.epochs}")
        check(self.precision != "fp16", "precision: a search trains in fp32 or bf16, not fp16")
        mixes = self.search.startswith("darts")
        check(mixes or not self.compile, f"compile: {self.search} has another graph each step; leave it out")
        check(self.ema is None, "ema: a search has no averaged weights; leave it out")
        shares = self.search != "random"
        check(shares or self.analysis is None, "analysis: cells of search=random share nothing; leave it out")
        check(self.augment.mix == "none", "augment.mix: a search needs single labels; leave it out")
        routed = self.norm in ("ccbn", "sabn")
        check(routed or self.routes == "sampled", f"routes={self.routes} needs norm ccbn or sabn")
        check(
            not (self.faithful and self.routes == "blended"),
            "faithful: the published code samples the routes; leave out routes=blended",
        )

    @property
    def trains_architecture(self) -> bool:
        """Whether the search has architecture parameters, so that images are for them."""
        return not self.search.startswith("random")

    @property
    def asked(self) -> str:
        """Everything that the closing evaluation depends on besides the weights."""
        return f"{self.table}, {self.dataset}, {self.test.epochs}, {self.test.seeds}"

    @property
    def step_images(self) -> int:
        """Images per step, of the weights and of the architecture, over all processes."""
        return self.batch_size * (2 if self.trains_architecture else 1)


CONFIG = NasConfig
