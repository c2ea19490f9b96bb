"""Running statistics for averaged weights, which were never trained themselves."""

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
    """The bench of a method for fixed weights: nothing is perturbed or trained.

    Attacks use batch statistics (`frozen`), because the running statistics are yet to be estimated.
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
    """Set the running statistics of the model to the mean over `count` training batches.

    `method` sends the batches through the model, so each route gets the statistics of the images that it is
    trained on; routes that are never trained keep theirs. The batches are those after step `step`, at most
    one epoch. The statistics are averaged over the processes.
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
