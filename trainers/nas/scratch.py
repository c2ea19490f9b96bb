"""A cell trained alone, from random weights: what a search is worth where there is no table."""

import torch
import torch.nn.functional as F
from torch import nn

from robustsabn.data import ImageSet
from robustsabn.models.nas import nas_bench_201
from robustsabn.nas import Cell
from robustsabn.trainers.config import OneCycle, Sgd
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.loop.draws import derive
from robustsabn.trainers.loop.updates import build_optimizer, learning_rate, set_learning_rate
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.division import Division
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["accuracy_from_scratch", "scratch", "share_correct", "train_cell"]

OPTIMISER, SCHEDULE = Sgd(lr=0.1, weight_decay=5e-4, nesterov=True), OneCycle()
BATCH_SIZE = 64


def scratch(
    config: NasConfig, division: Division, cell: Cell, monitor: Monitor, device: torch.device
) -> list[float]:
    """Test accuracies of `cell`, trained for `test.epochs` epochs with each of `test.seeds` seeds."""
    found = []
    for seed in range(config.test.seeds):
        monitor.note(f"training the found cell, seed {seed}")
        found.append(accuracy_from_scratch(config, division, cell, seed, device))
    return found


def accuracy_from_scratch(
    config: NasConfig, division: Division, cell: Cell, seed: int, device: torch.device
) -> float:
    """The test accuracy of `cell`, trained for `test.epochs` epochs on all training images.

    The network has the size of the supernet, and its own weights and running statistics.
    """
    assert config.test.epochs is not None
    data = division.data
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(seed, "scratch"))
        network = nas_bench_201(
            len(data.classes),
            data.train.shape[0],
            cell=cell,
            channels=config.channels,
            cells=config.cells,
            reduction=config.reduction,
        )
    network.to(device)
    size = min(BATCH_SIZE, len(data.train))
    batches = Batches(data.train, batch_size=size, seed=seed, device=device, augment=config.augment)
    train_cell(network, batches, config.test.epochs)
    return share_correct(network.eval(), division.test, device)


def train_cell(network: nn.Module, batches: Batches, epochs: int) -> None:
    """Train `network` by SGD, with a learning rate of one cycle up to 0.1."""
    optimizer, total = build_optimizer(network, OPTIMISER), epochs * batches.steps_per_epoch
    for step, (x, y) in enumerate(batches.run(0, total)):
        set_learning_rate(optimizer, learning_rate(SCHEDULE, OPTIMISER.lr, step, total))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(x), y))
        optimizer.step()


@torch.no_grad()
def share_correct(network: nn.Module, images: ImageSet, device: torch.device, batch_size: int = 500) -> float:
    """The accuracy of `network`, as it is, on images."""
    hits = torch.zeros((), dtype=torch.long, device=device)
    for places in torch.split(torch.arange(len(images)), batch_size):
        x, y = images.batch(places, device)
        hits += (network(x).argmax(1) == y).sum()
    return hits.item() / len(images)
