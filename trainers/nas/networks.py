"""The supernet of a run, and how it is asked for the accuracy of a mixture or of one cell."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustsabn.attacks.model.mode import BatchNormMode, attack_mode
from robustsabn.data import ImageSet
from robustsabn.layers import RoutedBatchNorm, RoutedBatchNorm2d
from robustsabn.models.nas import Supernet, supernet
from robustsabn.nas import Cell
from robustsabn.trainers.loop.compiling import compile_network, uncompiled
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.search.step import SearchStep

__all__ = ["Accuracies", "build_supernet"]


def build_supernet(
    config: NasConfig, classes: int, channels: int, *, seed: int, sync: bool = False
) -> Supernet:
    """The supernet of a run for images of `channels` channels; its weights depend only on `seed`.

    With `sync` the statistics of a batch are those of all processes.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = supernet(
            classes,
            channels,
            norm=config.norm,
            channels=config.channels,
            cells=config.cells,
            reduction=config.reduction,
            track_running_stats=config.statistics == "running",
        )
    if sync:
        _synchronise(network)
    if config.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        compile_network(network)
    return network


def _synchronise(network: nn.Module) -> None:
    """Compute the batch statistics of all norms over the processes; names in the state dict stay the same."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, RoutedBatchNorm):  # one of torch's classes, too
                layer.sync = True
            elif isinstance(layer, nn.BatchNorm2d):
                routed = RoutedBatchNorm2d(  # `convert` leaves norms alone that have no affine
                    layer.num_features,
                    routes=1,
                    affine="shared" if layer.affine else "none",
                    track_running_stats=layer.track_running_stats,
                    sync=True,
                )
                routed.load_state_dict(layer.state_dict())
                setattr(parent, name, routed)


class Accuracies:
    """The shares of images that ways through the supernet classify, without touching its weights.

    All norms use statistics of the batch, since running ones of the mixture do not fit a single path; or the
    running ones with `statistics=running`. With several processes, all compute the same.
    """

    def __init__(self, run: Run[NasConfig], bench: SearchStep) -> None:
        self.run, self.bench = run, bench
        self.mode: BatchNormMode = "frozen" if run.config.statistics == "batch" else "eval"
        self.read: dict[ImageSet, list[tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, chosen: Sequence[Tensor | Cell], images: ImageSet, step: int = 0) -> list[float]:
        """The accuracy of each of `chosen`: weights (6, 5) of all operations, or a cell."""
        supernet, hits = self.bench.supernet, []
        with attack_mode(supernet, self.mode), uncompiled(supernet), self.run.accelerator.autocast():
            for each in chosen:
                way = self.bench.evaluated(each, step)
                right = [way.logits(supernet, x).argmax(1) == y for x, y in self._batches(images)]
                hits.append(torch.cat(right).sum())
        return [count / len(images) for count in torch.stack(hits).tolist()]

    def _batches(self, images: ImageSet) -> list[tuple[Tensor, Tensor]]:
        """The batches of a set, which is read once."""
        if images not in self.read:
            places = torch.split(torch.arange(len(images)), self.run.config.validation.batch_size)
            device, last = self.run.accelerator.device, self.run.config.channels_last
            read = [images.batch(each, device) for each in places]
            how = torch.channels_last if last else torch.contiguous_format
            self.read[images] = [(x.contiguous(memory_format=how), y) for x, y in read]
        return self.read[images]
