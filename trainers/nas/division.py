"""The images of a search: some train the weights, others the architecture, and further ones only measure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustsabn.data import Data, ImageSet, load
from robustsabn.data.sets import permutation
from robustsabn.errors import ConfigError
from robustsabn.paths import given_path
from robustsabn.text import nearest, one_line, quote
from robustsabn.trainers.nas.config import NasConfig

__all__ = ["DIVISIONS", "Division", "divide"]

DIVISIONS = ("train", "test", "validation")

HALVES = {
    "train": ("train", "valid"),
    "test": ("xvalid", "xtest"),
}
"""The part of a set that a split file of NAS-Bench-201 divides, and the names of its halves there."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """Images for the weights, for the architecture, and `held_out` ones; no image is in two of them.

    `data` is the whole set; `test` has images that `weights` and `architecture` do not have.
    """

    data: Data
    weights: ImageSet
    architecture: ImageSet
    held_out: ImageSet
    test: ImageSet

    @property
    def note(self) -> str:
        """The numbers of images in words."""
        return (
            f"images of {self.data.name}: {len(self.weights)} for the weights, {len(self.architecture)} for "
            f"the architecture, {len(self.held_out)} to measure"
        )


def divide(config: NasConfig) -> Division:
    """The images of `config.data`, divided by `config.division`.

    The halves are random, but the same in every run. Raises ConfigError for an unknown division and a split
    file that does not fit the set, and DataError as `load`.
    """
    how, measured = config.division, config.validation.images
    if how not in DIVISIONS:
        return _by_file(config)
    held = measured if how != "test" else 0
    data = load(config.data, validation=held, n=config.images, download=config.download)
    if how == "validation":
        return _division(data, data.train, data.validation, data.test, data.test, measured)
    if how == "test":
        architecture, rest = _halves(data.test)
        return _division(data, data.train, architecture, rest, rest, measured)
    weights, architecture = _halves(data.train)
    return _division(data, weights, architecture, data.validation, data.test, measured)


def _division(
    data: Data, weights: ImageSet, architecture: ImageSet, held_out: ImageSet, test: ImageSet, measured: int
) -> Division:
    for what, images in (("the architecture", architecture), ("measuring", held_out)):
        if not len(images):
            raise ConfigError(f"division: {data.name} leaves no images for {what}; choose another division")
    few = held_out.sample(min(measured, len(held_out)))
    return Division(data=data, weights=weights, architecture=architecture, held_out=few, test=test)


def _halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    order = permutation(len(images), 0)
    middle = (len(images) + 1) // 2
    return images.take(order[:middle].sort().values), images.take(order[middle:].sort().values)


def _by_file(config: NasConfig) -> Division:
    split = _read_split(config.division)
    if config.images is not None:
        raise ConfigError("division: a split file names images of the whole set; leave out images")
    data = load(config.data, validation=0, download=config.download)
    part = next((part for part, names in HALVES.items() if set(names) <= split.keys()), None)
    if part is None:
        raise ConfigError(
            f"division: {config.division} has {', '.join(split)}; a split file of NAS-Bench-201 has train "
            "and valid, or xvalid and xtest"
        )
    divided = data.train if part == "train" else data.test
    first, second = (_places(split[name], len(divided), config.division, name) for name in HALVES[part])
    one, other = divided.take(first), divided.take(second)
    if set(first.tolist()) & set(second.tolist()):
        raise ConfigError(f"division: {config.division} has an image in both halves")
    measured = config.validation.images
    if part == "train":
        return _division(data, one, other, data.test, data.test, measured)
    return _division(data, data.train, one, other, other, measured)


def _read_split(text: str) -> dict[str, Any]:
    path = given_path(text, "the division", ConfigError)
    if not path.is_file():
        raise ConfigError(
            f"division: {quote(text)} is neither {', '.join(DIVISIONS)} nor a file{nearest(text, DIVISIONS)}"
        )
    try:
        split = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"division: {text} cannot be read as JSON ({one_line(error)})") from error
    if not isinstance(split, dict):
        raise ConfigError(f"division: {text} is no mapping from names to lists of images")
    return split


def _places(listed: Any, available: int, file: str, name: str) -> Tensor:
    """The indices in `listed`, which is ["int", ["0", "4", …]] in the benchmark's files."""
    try:
        kind, values = listed
        places = [int(value) for value in values]
    except (TypeError, ValueError):
        kind, places = None, []
    if kind != "int" or not places:
        raise ConfigError(f'division: {name} in {file} is not a list such as ["int", ["0", "4"]]')
    if min(places) < 0 or max(places) >= available:
        raise ConfigError(
            f"division: {name} in {file} names image {max(places, key=abs)}, but the set has {available}"
        )
    return torch.tensor(places)
