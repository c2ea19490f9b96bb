"""What a run evaluates of its generator: distances to the training images, and what a classifier makes of its classes."""

from functools import cached_property, partial

import torch
from torch import Tensor, nn

from robustsabn.data import Data
from robustsabn.errors import ConfigError
from robustsabn.metrics import Reference
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.gan.labels import present_classes
from robustsabn.trainers.gan.pictures import show_samples
from robustsabn.trainers.gan.results import AVERAGED, RESULTS, GanEvaluation
from robustsabn.trainers.gan.sampling import sample
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.processes.distributed import shared
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["Evaluator", "balanced", "reference"]

SEED = 0
"""Of the latents that are evaluated: the same at every evaluation of every run."""

MOST_JUDGED = 1000
"""Real images that the judge is tried on."""


def reference(config: GanConfig, data: Data, device: torch.device) -> Reference | None:
    """The training images as the metrics compare with them, None where no extractor is chosen.

    scikit-learn's digits have one by default. Raises ConfigError where fewer images are to be generated than it has features.
    """
    chosen = config.extractor or ("digits" if config.data == "digits" else None)
    if chosen is None:
        return None
    real = Reference(
        data.train, chosen, judge=config.judge, held_out=data.test, name=data.name, device=device
    )
    width = real.real.features.shape[1]
    for key, n in (("validation.images", config.validation.images), ("test.images", config.test.images)):
        if n <= width:
            raise ConfigError(
                f"{key} is {n}; a Fréchet distance in {width} features needs more than {width} images"
            )
    return real


def balanced(present: Tensor, n: int) -> Tensor:
    """Classes (n,) of `present` (K,), as many of each as can be, in order."""
    return present.cpu()[torch.arange(n) * len(present) // n]


class Evaluator:
    """Measures and shows the images of `generator`, on the main process for all, and tells the monitor."""

    def __init__(
        self, run: Run[GanConfig], generator: nn.Module, data: Data, real: Reference | None, monitor: Monitor
    ) -> None:
        """`real` is there on the main process alone."""
        self.run, self.config, self.generator, self.monitor = run, run.config, generator, monitor
        self.data, self.real, self.present = data, real, present_classes(data)
        # what is told by class needs real images of every class
        self.by_class = ("classes",) if len(self.present) == len(data.classes) else ()

    def validate(self, step: int, kind: str, heading: str) -> GanEvaluation:
        """The distance, on few images, and pictures of the weights that are best to sample from."""
        found = self._measure(self.config.validation.images, ("fid", "judged"))
        self.monitor.say(f"{heading}  {found}")
        self.monitor.record(kind, step, found.to_dict())
        if self.monitor.active and kind == ("validation" if self.config.ema is None else AVERAGED):
            show_samples(self.generator, self.present.tolist(), self.monitor, step)
        return found

    def close(self, step: int, kind: str, heading: str) -> GanEvaluation:
        """Everything that can be measured, as a table."""
        wanted = ("fid", "floor", "judged", "inception_score", *self.by_class)
        found = self._measure(self.config.test.images, wanted)
        self.monitor.table(RESULTS.table(found, heading))
        self.monitor.record(kind, step, found.to_dict())
        return found

    def _measure(self, n: int, wanted: tuple[str, ...]) -> GanEvaluation:
        return shared(self.run.accelerator, partial(self._measured, n, wanted))

    def _measured(self, n: int, wanted: tuple[str, ...]) -> GanEvaluation:
        if self.real is None:
            return GanEvaluation(n)
        classes = balanced(self.present, n)
        images = sample(self.generator, classes, seed=SEED)
        found = self.real.measure(images, classes, only=wanted)
        return GanEvaluation.of(found, n, self._real_class_accuracy if found.judged else None)

    @cached_property
    def _real_class_accuracy(self) -> float | None:
        assert self.real is not None
        images = self.data.test.sample(min(len(self.data.test), MOST_JUDGED))
        found = self.real.measure(images, only=("judged",), what="test images").judged
        return None if found is None else found.accuracy
