"""Evaluations of a generator: distances to the training images, and accuracy of its classes."""

from functools import cached_property, partial

import torch
from torch import Tensor, nn

from robustsabn.data import Data
from robustsabn.errors import ConfigError
from robustsabn.metrics import Reference
from robustsabn.metrics.scores import enough
from robustsabn.text import quote
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
"""The seed of the latents in evaluations: the same in all evaluations and runs."""

MOST_JUDGED = 1000
"""The largest number of real images that the judge classifies."""


def reference(config: GanConfig, data: Data, device: torch.device) -> Reference | None:
    """The training images as a reference for the metrics, or None without an extractor.

    scikit-learn's digits have a default extractor. Raises ConfigError for a judge without an extractor, and
    if fewer images are to be generated than the extractor has features; InputError if there are fewer
    training images than that, or extractor or judge do not fit the images or classes.
    """
    chosen = config.extractor or ("digits" if config.data == "digits" else None)
    if chosen is None:
        if config.judge is not None:
            raise ConfigError(
                f"judge is {quote(config.judge)}, but nothing is measured without an extractor; "
                "give extractor= too"
            )
        return None
    real = Reference(
        data.train, chosen, judge=config.judge, held_out=data.test, name=data.name, device=device
    )
    width = real.width
    enough(len(data.train), width, "the training images")
    for key, n in (("validation.images", config.validation.images), ("test.images", config.test.images)):
        if n <= width:
            raise ConfigError(
                f"{key} is {n}; a Fréchet distance in {width} features needs more than {width} images"
            )
    if real.judge is not None:  # tried before training, on the first and the last class
        ends = torch.stack([data.train.labels.argmin(), data.train.labels.argmax()])
        real.measure(data.train.take(ends), only=("judged",), what="the training images")
    return real


def balanced(present: Tensor, n: int) -> Tensor:
    """Classes (n,) from `present` (K,), as equally often as possible, in order."""
    return present.cpu()[torch.arange(n) * len(present) // n]


class Evaluator:
    """Measures and shows images of `generator` on the main process, and reports to the monitor."""

    def __init__(
        self, run: Run[GanConfig], generator: nn.Module, data: Data, real: Reference | None, monitor: Monitor
    ) -> None:
        """`real` is set on the main process only."""
        self.run, self.config, self.generator, self.monitor = run, run.config, generator, monitor
        self.data, self.real, self.present = data, real, present_classes(data)
        # metrics per class need real images of every class
        self.by_class = ("classes",) if len(self.present) == len(data.classes) else ()

    def validate(self, step: int, kind: str, heading: str) -> GanEvaluation:
        """The distance of a few images, and sample pictures from the best available weights."""
        measured = self._measure(self.config.validation.images, ("fid", "judged"))
        self.monitor.say(f"{heading}  {measured}".rstrip())
        self.monitor.record(kind, step, measured.to_dict())
        if self.monitor.active and kind == ("validation" if self.config.ema is None else AVERAGED):
            show_samples(self.generator, self.present.tolist(), self.monitor, step)
        return measured

    def close(self, step: int, kind: str, heading: str) -> GanEvaluation:
        """All metrics that can be measured, as a table."""
        wanted = ("fid", "floor", "judged", "inception_score", *self.by_class)
        measured = self._measure(self.config.test.images, wanted)
        self.monitor.table(RESULTS.table(measured, heading))
        self.monitor.record(kind, step, measured.to_dict())
        return measured

    def _measure(self, n: int, wanted: tuple[str, ...]) -> GanEvaluation:
        return shared(self.run.accelerator, partial(self._measured, n, wanted))

    def _measured(self, n: int, wanted: tuple[str, ...]) -> GanEvaluation:
        if self.real is None:
            return GanEvaluation(n)
        classes = balanced(self.present, n)
        images = sample(self.generator, classes, seed=SEED)
        quality = self.real.measure(images, classes, only=wanted)
        return GanEvaluation.of(quality, n, self._real_class_accuracy if quality.judged else None)

    @cached_property
    def _real_class_accuracy(self) -> float | None:
        assert self.real is not None
        images = self.data.test.sample(min(len(self.data.test), MOST_JUDGED))
        accuracy_of_judge = self.real.measure(images, only=("judged",), what="test images").judged
        return None if accuracy_of_judge is None else accuracy_of_judge.accuracy
