"""A hash of the contents of a data set."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from robustsabn.data.folder import FolderSet
from robustsabn.data.own.items import ItemSet
from robustsabn.data.sets import ArraySet, ImageSet
from robustsabn.errors import DataError

__all__ = ["digest", "sha256"]

_WHOLE = 64 * 2**20
_SAMPLE = 1000


def digest(parts: Mapping[str, ImageSet], names: Sequence[str] | None) -> str:
    """BLAKE2b hash of class names, labels and images of every part, 32 hexadecimal digits.

    For sets that are read item by item it covers all items up to 64 MiB in total, else 1000 of them. For
    image folders it covers the names and sizes of all files, and their contents: all up to 64 MiB in
    total, above that those of at most 1000 files, evenly spread. The path of the folder and the times of
    files do not count."""
    state = hashlib.blake2b(digest_size=16)
    for piece in _pieces(parts, names):
        state.update(piece)
    return state.hexdigest()


def sha256(parts: Mapping[str, ImageSet], names: Sequence[str] | None) -> str:
    """SHA-256 of the same content."""
    state = hashlib.sha256()
    for piece in _pieces(parts, names):
        state.update(piece)
    return state.hexdigest()


def _pieces(parts: Mapping[str, ImageSet], names: Sequence[str] | None) -> Iterator[bytes | memoryview]:
    yield repr(names and list(names)).encode()
    for part, images in sorted(parts.items()):
        yield f"{part} {len(images)} {images.shape}".encode()
        yield images.labels.cpu().numpy().tobytes()
        yield from _content(images)


def _content(images: ImageSet) -> Iterator[bytes | memoryview]:
    if isinstance(images, ArraySet):
        yield images.images.cpu().contiguous().numpy().data
    elif isinstance(images, ItemSet):
        yield from _items(images)
    elif isinstance(images, FolderSet):
        try:
            yield from _files(images)
        except OSError as error:
            raise DataError(
                f"{error.filename} cannot be read ({error.strerror}); repair or remove it"
            ) from error


def _items(images: ItemSet) -> Iterator[bytes | memoryview]:
    size = 4 * len(images) * math.prod(images.shape)
    step = 1 if size <= _WHOLE else -(-len(images) // _SAMPLE)
    for rows in torch.split(torch.arange(0, len(images), step), 64):
        yield images.batch(rows)[0].numpy().data


def _files(images: FolderSet) -> Iterator[bytes]:
    sizes = [path.stat().st_size for path in images.paths]
    for path, size in zip(images.paths, sizes, strict=True):
        yield f"{path.name} {size}\n".encode(errors="surrogateescape")
    step = 1 if sum(sizes) <= _WHOLE else -(-len(sizes) // _SAMPLE)
    for path in images.paths[::step]:
        yield path.read_bytes()
