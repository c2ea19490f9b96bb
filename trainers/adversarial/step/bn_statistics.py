"""Running statistics for weights that were never trained with: those of an average."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.loop.draws import derive
from robustsabn.trainers.loop.standing import batch_norms, cumulative
from robustsabn.trainers.methods import Method
from robustsabn.trainers.processes.distributed import average_statistics

__all__ = ["Rehearsal", "estimate_statistics"]


class Rehearsal(AdversarialStep):
    """The bench of a method whose weights stay as they are: nothing is perturbed, and nothing comes of a
    backward.

    Attacks normalise with batch statistics (`frozen`), because the running ones are what is sought.
    """

    def __init__(self, bench: AdversarialStep) -> None:
        super().__init__(
            bench.accelerator,
            bench.raw,
            bench.raw,
            replace(bench.config, bn_mode="frozen"),
            seed=derive(bench.seed, "rehearsal"),
            batch_size=bench.batch_size,
            share=bench.share,
            per_epoch=bench.per_epoch,
            smoothing=bench.smoothing,
            classes=bench.classes,
        )
        self.carried = dict(bench.carried)

    def perturb_weights(self, loss: Callable[[], Tensor], gamma: float) -> None:
        pass


def estimate_statistics(
    method: Method, bench: AdversarialStep, batches: Batches, step: int, count: int
) -> None:
    """Give the batch norms of the model the mean statistics of `count` batches, as `method` sends them
    through it.

    So each route has the statistics of the images that it is trained on, one that is never trained keeps what
    it has. The batches are those that follow step `step`, at most one pass. The statistics are averaged over
    the processes.
    """
    if not batch_norms(bench.raw):
        return
    rehearsal, rank = Rehearsal(bench), bench.accelerator.process_index
    with cumulative(bench.raw), torch.compiler.set_stance("force_eager"):
        for at, (x, y) in enumerate(batches.following(step, count), step):
            torch.manual_seed(derive(rehearsal.seed, "step", at, rank))
            with rehearsal.at(at):
                method.losses(rehearsal, x, y)
    average_statistics(bench.accelerator, bench.raw)
