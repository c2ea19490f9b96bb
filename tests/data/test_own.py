"""Sets given as objects: datasets, loaders, Hugging Face's interface, tensors, with transforms."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from robustsabn.data import ArraySet, load
from robustsabn.data.own import ItemSet, items, own_parts
from robustsabn.errors import DataError

X = torch.arange(20 * 12).reshape(20, 3, 2, 2).to(torch.uint8)
Y = torch.arange(20) % 2


class Own(Dataset[Any]):
    """Pictures of Pillow, as most datasets have them, through a transform."""

    classes = ("cat", "dog")

    def __init__(self, transform: Any = lambda picture: picture, n: int = 20) -> None:
        self.transform, self.n = transform, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        return self.transform(Image.fromarray(X[i].permute(1, 2, 0).numpy())), int(Y[i])


class Rows(Dataset[Any]):
    """The interface of a Hugging Face dataset: mappings, features and column names."""

    class Label:
        names = ("cat", "dog")

    features = {"img": object(), "label": Label()}  # noqa: RUF012

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Any:
        return {"img": Own()[i][0], "label": int(Y[i])}


def to_float(picture: Any) -> Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255


def noisy(picture: Any) -> Tensor:
    """A random transform that uses all three global generators."""
    shift = random.random() / 3 + np.random.rand() / 3 + float(torch.rand(())) / 3
    return (to_float(picture) / 2 + shift / 2).clamp(0, 1)


def whole(given: Any) -> Any:
    parts, names, notes = own_parts(given, "mine")
    return parts["all"], names, notes


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (Own(), ("cat", "dog")),
        (Own(to_float), ("cat", "dog")),
        (Subset(Own(), range(20)), ("cat", "dog")),
        (DataLoader(Own(to_float), batch_size=3), ("cat", "dog")),
        (Rows(), ("cat", "dog")),
        ((X, Y), None),
        ((X / 255, Y.int()), None),
        ((X.permute(0, 2, 3, 1).numpy(), Y.numpy()), None),
        (TensorDataset(X, Y), None),
        (ArraySet(X, Y), None),
    ],
)
def test_the_same_pixels_from_every_kind(given: Any, names: Any) -> None:
    images, found, _ = whole(given)
    assert isinstance(images, ArraySet)
    assert torch.equal(images.images, X)
    assert torch.equal(images.labels, Y)
    assert found == names


def test_floats_that_bytes_cannot_hold_are_read_as_they_are() -> None:
    images, _, _ = whole(Own(lambda picture: to_float(picture) / 3))
    assert isinstance(images, ItemSet)
    x, y = images.batch(torch.tensor([3, 1]))
    assert torch.equal(x, torch.stack([X[3], X[1]]).float() / 255 / 3)
    assert y.tolist() == [1, 1]
    assert torch.equal(images.take(torch.tensor([5, 3])).batch(torch.tensor([1]))[0], x[:1])


def test_random_transforms_depend_on_the_draw_and_disturb_no_generator() -> None:
    images, _, _ = whole(Own(noisy))
    assert isinstance(images, ItemSet)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    rows = torch.tensor([4, 7])
    first, again, other = (images.drawn(draw).batch(rows)[0] for draw in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images.drawn(1).batch(rows.flip(0))[0].flip(0), first)  # not on the place in the batch
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_large_sets_stay_on_disk_with_the_labels_they_list(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listed(Own):
        targets = Y.tolist()
        read = 0

        def __getitem__(self, i: int) -> Any:
            Listed.read += 1
            return super().__getitem__(i)

    monkeypatch.setattr(items, "LARGEST_IN_MEMORY", 0)
    images, _, _ = whole(Listed(n=20))
    assert isinstance(images, ItemSet)
    assert torch.equal(images.labels, Y)
    assert Listed.read < 20
    assert torch.equal(images.batch(torch.arange(20))[0], X.float() / 255)
    Listed.targets = Y.flip(0).tolist()  # they disagree with the items
    assert torch.equal(whole(Listed(n=20))[0].labels, Y)


@pytest.mark.parametrize(
    "given",
    [
        (Own(), Own(n=10)),
        {"train": Own(), "test": Own(n=10)},
        {"training": DataLoader(Own()), "testing": (X[:10], Y[:10])},
    ],
)
def test_parts_by_order_and_by_name(given: Any) -> None:
    parts, names, _ = own_parts(given, "mine")
    assert {part: len(images) for part, images in parts.items()} == {"train": 20, "test": 10}
    assert names == ("cat", "dog")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (TensorDataset(2 * X / 255 - 1, Y), "leave Normalize out of the transforms"),
        (TensorDataset(X.float(), Y), "divide them by 255"),
        (TensorDataset(X.long(), Y), "give uint8, or floats in"),
        (TensorDataset(X, Y.float()), "labels are whole numbers from 0"),
        (TensorDataset(X[:0], Y[:0]), "is empty"),
        ([(X[0], 0), (X[1, :, :1], 1), (X[2], 0), (X[3], 0)], "resize them to one size"),
        (Own(lambda picture: "text"), "an array or a Pillow image"),
        ([{"picture": X[0], "label": 0}], "name one of them image"),
        ({"trian": Own()}, "parts are train, validation and test"),
        ({"train": Own(), "test": (X[:, :1], Y)}, "parts differ in"),
        ((X, Y[:3]), r"labels \(3,\)"),
        (object(), "give a torch Dataset or DataLoader"),
        (Own(lambda picture: 1 / 0), "item 0 cannot be read: ZeroDivisionError"),
    ],
)
def test_what_does_not_fit_is_told(given: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        own_parts(given, "mine")


def test_an_iterable_dataset_is_refused() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(X[0], 0)])

    with pytest.raises(DataError, match="iterable"):
        own_parts(DataLoader(Stream()), "mine")


def test_a_function_of_a_file_is_a_data_specification(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "from torch.utils.data import TensorDataset\n"
        "def make():\n"
        "    x, y = torch.zeros(40, 1, 4, 4, dtype=torch.uint8), torch.arange(40) % 2\n"
        "    return {'train': TensorDataset(x, y), 'test': TensorDataset(x[:10], y[:10])}\n"
        "def fails():\n    raise RuntimeError('no disk')\n"
    )
    data = load(f"{file}:make")
    assert (len(data.train), len(data.validation), len(data.test), data.classes) == (36, 4, 10, ("0", "1"))
    with pytest.raises(DataError, match=r"no disk.*mine.py, line 7"):
        load(f"{file}:fails")
    with pytest.raises(DataError, match="did you mean make"):
        load(f"{file}:maek")
    with pytest.raises(DataError, match="name its function"):
        load(str(file))


def test_torchvision_transforms(tmp_path: Path) -> None:
    from robustsabn import _torchvision

    transforms = _torchvision.load("torchvision.transforms")
    images, _, _ = whole(Own(transforms.ToTensor()))
    assert isinstance(images, ArraySet)
    assert torch.equal(images.images, X)
    cropped = transforms.Compose([transforms.RandomCrop(2, padding=1), transforms.ToTensor()])
    assert isinstance(whole(Own(cropped))[0], ItemSet)
