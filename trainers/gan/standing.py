"""Standing statistics: running statistics of a generator, estimated from its own images."""

import torch

from robustsabn.trainers.gan.step import GanStep
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.loop.standing import cumulative
from robustsabn.trainers.processes.distributed import average_statistics

__all__ = ["estimate_statistics"]


def estimate_statistics(bench: GanStep, step: int, count: int) -> None:
    """Set the running statistics of the generator to the mean over `count` batches of its images.

    The batches contain all classes; if statistics are per route, each class gets those of its own images.
    Brock et al., ICLR 2019, appendix C.
    """
    network = bench.generator.raw
    with cumulative(network), uncompiled(network), torch.no_grad():
        for at in range(count):
            bench.generate(step * count + at, "standing", bench.g_batch_size)
    average_statistics(bench.run.accelerator, network)
