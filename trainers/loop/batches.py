"""Training batches: the images of step s and their augmentation depend only on (seed, s)."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustsabn.data import ArraySet, ImageSet
from robustsabn.data.augment import apply_crop_flip, draw_crop_flip
from robustsabn.data.joined import JoinedSet, drawn, worker_processes
from robustsabn.data.mixing import Mixing, draw_mixing
from robustsabn.errors import ConfigError
from robustsabn.trainers.config import Augment
from robustsabn.trainers.loop.draws import derive, generator
from robustsabn.trainers.loop.order import Passes, spread

__all__ = ["Batches"]

Batch = tuple[Tensor, Tensor]
Read = tuple[Tensor, Tensor, Mixing | None]


class Batches:
    """The batches of a run, of which each process gets its share.

    `batch_size` counts all processes; each takes an equal, consecutive share. Random numbers are drawn for
    the whole batch, so the number of processes changes nothing. Every batch is repeated `replays` times. With
    mixed images, labels are shares (n, K) of the `classes` that sum to 1. Images in memory are moved to the
    device; others are read ahead.

    `extra` is a second set and the number of its images in each batch, which are spread evenly over the
    batch. Both sets are cycled separately; the epoch length is that of `images`. The second set stays where
    it is. A different `purpose` gives a different order and different augmentation, so a run may have several
    `Batches`.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        augment: Augment | None = None,
        purpose: str = "order",
        rank: int = 0,
        world: int = 1,
        replays: int = 1,
        classes: int = 0,
        extra: tuple[ImageSet, int] | None = None,
    ) -> None:
        if batch_size > len(images):
            raise ConfigError(
                f"batch_size {batch_size} is larger than the training set; choose 1 to {len(images)}"
            )
        if batch_size % world:
            raise ConfigError(
                f"batch_size {batch_size} does not divide by {world} processes; it counts all of them"
            )
        own, self.purpose = images.to(device), purpose
        self.images = own if extra is None else JoinedSet(own, extra[0])
        self.shape, self._passes = images.shape, Passes(len(images), seed, purpose)
        self._other = None if extra is None else Passes(len(extra[0]), seed, self._for("extra"))
        self._foreign = spread(0 if extra is None else extra[1], batch_size)
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.augment = augment or Augment()
        self.classes, self.replays, self._batches = classes, replays, len(images) // batch_size
        self.steps_per_epoch = self._batches * replays
        self.share = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def run(self, start: int, stop: int) -> Iterator[Batch]:
        """Images (n, C, H, W) in [0, 1] and labels (n,) of the steps `start` … `stop` - 1, in order."""
        first = start // self.replays
        for index, batch in enumerate(self._run(first, -(-stop // self.replays)), first):
            last = index * self.replays + self.replays
            for _ in range(max(start, last - self.replays), min(stop, last)):
                yield batch

    def following(self, step: int, count: int) -> Iterator[Batch]:
        """The next `count` different batches from `step` on, at most one epoch."""
        first = -(-step // self.replays)
        return self._run(first, first + min(count, self._batches))

    def _run(self, start: int, stop: int) -> Iterator[Batch]:
        if self.images.in_memory if isinstance(self.images, JoinedSet) else isinstance(self.images, ArraySet):
            yield from map(self.at, range(start, stop))
            return
        workers = worker_processes(self.images)
        if workers is not None:  # transforms use the global random numbers of their process
            for index, read in enumerate(self._by_processes(start, stop, workers), start):
                x, y, mixing = read
                yield self._augmented(index, (x.to(self.device), y.to(self.device), mixing), self.share)
            return
        ahead: list[Future[Read]] = []
        with ThreadPoolExecutor(1) as reader:
            try:
                for index in range(start, stop):
                    while len(ahead) < min(3, stop - index):
                        ahead.append(reader.submit(self._read, index + len(ahead), self.share))
                    yield self._augmented(index, ahead.pop(0).result(), self.share)
            finally:
                for future in ahead:
                    future.cancel()

    def _by_processes(self, start: int, stop: int, workers: int) -> Iterator[Read]:
        reader = _Reader(self)
        source = torch.Generator()  # else each loader would draw from torch's own
        return iter(
            DataLoader(reader, None, sampler=range(start, stop), num_workers=workers, generator=source)
        )

    def at(self, index: int, share: slice | None = None) -> Batch:
        """The batch with number `index`: this process's rows, or the rows `share`."""
        rows = share or self.share
        return self._augmented(index, self._read(index, rows), rows)

    def whole(self, step: int) -> dict[str, Tensor]:
        """The whole batch of `step` on the CPU: `images` (N, C, H, W), `labels` (N,) and `places`.

        Places are indices into the training set; those of the extra set follow after it.
        """
        index = step // self.replays
        x, y = self.at(index, slice(0, self.batch_size))
        return {"images": x.cpu().contiguous(), "labels": y.cpu(), "places": self._places(index).clone()}

    def _places(self, index: int) -> Tensor:
        if self._other is None:  # the incomplete last batch is dropped
            epoch, place = divmod(index, self._batches)
            return self._passes.places(epoch * self._passes.n + place * self.batch_size, self.batch_size)
        count = int(self._foreign.sum())
        places = torch.empty(self.batch_size, dtype=torch.long)
        places[self._foreign] = self._passes.n + self._other.places(index * count, count)
        count = self.batch_size - count
        places[~self._foreign] = self._passes.places(index * count, count)
        return places

    def _for(self, what: str) -> str:
        """The name of the random draws for `what`; different for each `purpose`."""
        return what if self.purpose == "order" else f"{self.purpose} {what}"

    def _read(self, index: int, share: slice, device: torch.device | None = None) -> Read:
        mixing = self._mixing(index, share)
        rows = share if mixing is None else mixing.rows
        images = drawn(self.images, derive(self.seed, self._for("transform"), index))
        return *images.batch(self._places(index)[rows], device or self.device), mixing

    def _augmented(self, index: int, read: Read, share: slice) -> Batch:
        x, y, mixing = read
        crop, flip = self.augment.crop, self.augment.flip
        if crop or flip:
            source = generator(self.device, self.seed, self._for("augment"), index)
            draws = draw_crop_flip(self.batch_size, source, padding=crop, flip=flip)
            rows = share if mixing is None else mixing.rows.to(self.device, non_blocking=True)
            x = apply_crop_flip(x, draws[rows], padding=crop)
        return (x, y) if mixing is None else mixing.apply(x, y, self.classes)

    def _mixing(self, index: int, share: slice) -> Mixing | None:
        kind, alpha = self.augment.mix, self.augment.mix_alpha
        if kind == "none":
            return None
        _, height, width = self.shape
        seed = derive(self.seed, self._for("mix"), index)
        return draw_mixing(kind, self.batch_size, (height, width), alpha, seed, share)


class _Reader(Dataset[Read]):
    """The batches by number, read on the CPU in whichever process asks."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Read:
        return self.batches._read(index, self.batches.share, torch.device("cpu"))
