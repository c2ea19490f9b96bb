"""Public data sets: digits is part of scikit-learn, the others are read from torchvision's folders."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustsabn import _torchvision
from robustsabn.data.sets import ArraySet
from robustsabn.errors import DataError

__all__ = ["PUBLIC", "read_digits", "read_public"]

_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_NUMERALS = tuple("0123456789")

# name in a data specification -> torchvision's class
PUBLIC = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
}

Parts = tuple[dict[str, ArraySet], tuple[str, ...]]


def read_digits() -> Parts:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, in fixed parts "train" (60 %), "validation" and "test" (20
    %).

    Of each five images of a class the fourth is for validation and the fifth for tests.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(target).long()
    rank = torch.zeros_like(labels)
    for k in range(10):
        rank[labels == k] = torch.arange(int((labels == k).sum()))
    everything = ArraySet(images, labels)
    places = {"train": rank % 5 < 3, "validation": rank % 5 == 3, "test": rank % 5 == 4}
    return {part: everything.take(mask.nonzero().flatten()) for part, mask in places.items()}, _NUMERALS


def read_public(name: str, root: Path, *, download: bool = False) -> Parts:
    """Parts "train" and "test" of a set in `PUBLIC`, under `root` in the folder layout of torchvision."""
    official = PUBLIC[name]
    try:
        if name in ("mnist", "fashionmnist"):
            return _read_idx(official, root, download), _NUMERALS if name == "mnist" else _CLOTHES
        return _read_torchvision(official, root, download)
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = (
            "check the network"
            if download
            else f"give its folder as {name}:ROOT, or download it by training with download=true, or by "
            "autoattack --download"
        )
        raise DataError(f"{official} cannot be read from {root} ({reason:.160}); {remedy}") from error


def _read_torchvision(official: str, root: Path, download: bool) -> Parts:
    source = getattr(_torchvision.load("torchvision.datasets"), official)
    parts = {}
    classes = _NUMERALS
    for part in ("train", "test"):
        if official == "SVHN":
            dataset = source(root, split=part, download=download)
            images, labels = torch.from_numpy(dataset.data), torch.from_numpy(dataset.labels).long()
        else:
            dataset = source(root, train=part == "train", download=download)
            images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
            labels, classes = torch.tensor(dataset.targets), tuple(dataset.classes)
        parts[part] = ArraySet(images, labels)
    return parts, classes


def _read_idx(official: str, root: Path, download: bool) -> dict[str, ArraySet]:
    # torchvision would need the archives unpacked beside the originals
    if download:
        getattr(_torchvision.load("torchvision.datasets"), official)(root, download=True)
    raw = root / official / "raw"
    parts = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        images = _idx(raw / f"{stem}-images-idx3-ubyte", header=16).reshape(-1, 1, 28, 28)
        parts[part] = ArraySet(images, _idx(raw / f"{stem}-labels-idx1-ubyte", header=8).long())
    return parts


def _idx(path: Path, header: int) -> Tensor:
    packed = path.with_name(path.name + ".gz")
    content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header)
