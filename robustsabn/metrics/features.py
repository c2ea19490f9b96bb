"""Features of many images, extracted once for all metrics; those of real images are cached on disk."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from robustsabn.data.content import digest
from robustsabn.data.folder import FolderSet
from robustsabn.data.sets import ArraySet, Device
from robustsabn.errors import InputError, WriteError
from robustsabn.files import make_folder, replacing
from robustsabn.metrics.extractor import Extractor
from robustsabn.metrics.images import Images, batches, count, fitted
from robustsabn.paths import cache_folder

__all__ = ["Extraction", "Features", "extract", "extract_cached"]


@dataclass(frozen=True)
class Extraction:
    """Device and batch size of the extraction; `progress` shows a bar."""

    device: Device = "cpu"
    batch_size: int = 256
    progress: bool = False


@dataclass(frozen=True, eq=False)
class Features:
    """Features (N, D), logits (N, K) and labels (N,) on the CPU.

    `shape` (C, H, W) is that of the images, `grey` whether their channels are equal.
    """

    features: Tensor
    logits: Tensor | None
    labels: Tensor | None
    shape: tuple[int, ...]
    grey: bool

    def __len__(self) -> int:
        return len(self.features)


def extract(
    images: Images, labels: Tensor | None, extractors: Sequence[Extractor], what: str, way: Extraction
) -> list[Features]:
    """The features of each of `extractors`, in one pass over the images.

    Raises InputError as `batches` and `fitted` do, and for features that are not finite.
    """
    found: list[list[tuple[Tensor, Tensor | None]]] = [[] for _ in extractors]
    known: list[Tensor] = []
    networks = [e.to(way.device) for e in extractors]
    shape: tuple[int, ...] = ()
    n, grey = 0, True
    with Progress(transient=True, disable=not way.progress) as bar:
        task = bar.add_task(f"features of {what}", total=count(images))
        for x, y in batches(images, labels, what=what, size=way.batch_size, device=way.device):
            shape, n = tuple(x.shape[1:]), n + len(x)
            grey = grey and bool((x == x[:, :1]).all())
            for network, rows in zip(networks, found, strict=True):
                out = network(fitted(x, network.channels, network.size, network.name))
                rows.append((out.features.cpu(), None if out.logits is None else out.logits.cpu()))
            known += [] if y is None else [y]
            bar.advance(task, len(x))
    seen = torch.cat(known) if known else None
    if seen is not None and len(seen) != n:
        raise InputError(f"{what}: {len(seen)} of {n} images have labels; give all or none")
    return [
        Features(*_joined(e, rows, what), seen, shape, grey)
        for e, rows in zip(extractors, found, strict=True)
    ]


def extract_cached(
    images: Images, labels: Tensor | None, extractor: Extractor, what: str, way: Extraction
) -> Features:
    """`extract` with one extractor; features of a set in memory or a folder are kept in the user's cache
    folder.

    The file is named by the digests of images and extractor.
    """
    file = _file(images, extractor, str(way.device)) if labels is None else None
    if file is not None and (kept := _kept(file)) is not None:
        return kept
    extracted = extract(images, labels, [extractor], what, way)[0]
    if file is not None:
        tensors = {"features": extracted.features, "logits": extracted.logits, "labels": extracted.labels}
        tensors |= {"shape": torch.tensor(extracted.shape), "grey": torch.tensor(extracted.grey)}
        with contextlib.suppress(WriteError):  # then they are extracted again next time
            make_folder(file.parent)
            with replacing(file) as aside:
                save_file({k: v.contiguous() for k, v in tensors.items() if v is not None}, aside)
    return extracted


def _joined(
    extractor: Extractor, rows: list[tuple[Tensor, Tensor | None]], what: str
) -> tuple[Tensor, Tensor | None]:
    features = torch.cat([row for row, _ in rows])
    if not features.isfinite().all():
        raise InputError(f"the extractor {extractor.name} gave features of {what} that are NaN or infinite")
    logits = [row for _, row in rows if row is not None]
    return features, torch.cat(logits) if logits else None


def _file(images: Images, extractor: Extractor, device: str) -> Path | None:
    if not isinstance(images, (ArraySet, FolderSet)):
        return None
    kind = device.partition(":")[0]
    name = f"{digest({'all': images}, None)}-{extractor.digest}-{kind}.safetensors"
    return cache_folder() / "metrics" / "features" / name


def _kept(file: Path) -> Features | None:
    try:
        held = load_file(file)
        shape, grey = tuple(held["shape"].tolist()), bool(held["grey"])
        return Features(held["features"], held.get("logits"), held.get("labels"), shape, grey)
    except (OSError, SafetensorError, KeyError):  # none, or damaged: they are extracted again
        return None
