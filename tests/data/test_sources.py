"""Specs, splits, sets in memory, sets in folders and published sets."""

import gzip
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustsabn import _torchvision
from robustsabn.data import ArraySet, ImageSet, load, load_test
from robustsabn.data.splits import hold_out
from robustsabn.errors import DataError


def pixels(part: ImageSet) -> torch.Tensor:
    return part.batch(torch.arange(len(part)))[0]


# ------------------------------------------------------------------ sets


def array_set(n: int = 20) -> ArraySet:
    images = torch.arange(n * 3 * 2 * 2).remainder(256).byte().reshape(n, 3, 2, 2)
    return ArraySet(images, torch.arange(n) % 5)


def test_batches_are_floats_in_the_unit_interval() -> None:
    data = array_set()
    indices = torch.tensor([4, 0, 19])
    x, y = data.batch(indices)
    assert torch.equal(x, data.images[indices].float() / 255)
    assert torch.equal(y, data.labels[indices])
    assert x.min() >= 0
    assert x.max() <= 1


def test_ids_stay_with_their_images() -> None:
    data = array_set()
    chosen = data.take(torch.tensor([7, 3, 11])).take(torch.tensor([2, 0])).to("cpu")
    assert chosen.ids.tolist() == [11, 7]
    assert torch.equal(chosen.images, data.images[chosen.ids])


def test_samples_are_prefixes_of_one_permutation() -> None:
    data = array_set()
    assert data.sample(None) is data
    assert torch.equal(data.sample(5).ids, data.sample(20).ids[:5])
    assert data.sample(20).ids.sort().values.tolist() == list(range(20))
    assert not torch.equal(data.sample(20, seed=1).ids, data.sample(20).ids)
    for n in (0, -1, 21):
        with pytest.raises(DataError, match="give 1 to 20"):
            data.sample(n)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), "must be uint8"),
        (torch.zeros(2, 4, 4).byte(), torch.zeros(2).long(), "must be uint8 of shape"),
        (torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2), "must be int64"),
        (torch.zeros(2, 3, 4, 4).byte(), torch.zeros(3).long(), r"of shape \(2,\)"),
    ],
)
def test_sets_in_memory_check_their_tensors(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArraySet(images, labels)


@pytest.mark.parametrize(
    ("n", "asked", "got"), [(50000, 1000, 1000), (5000, 1000, 500), (5, 1000, 1), (1, 9, 0), (50, 0, 0)]
)
def test_validation_is_held_out_by_seed(n: int, asked: int, got: int) -> None:
    train, held = hold_out(n, asked, seed=0)
    assert len(held) == got
    assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(n))
    assert torch.equal(hold_out(n, asked, seed=0)[1], held)
    if 1 < got < n:
        assert not torch.equal(hold_out(n, asked, seed=1)[1], held)


def test_negative_validation_is_refused() -> None:
    with pytest.raises(DataError, match="0 or more"):
        hold_out(10, -1, 0)


# ------------------------------------------------------------------ digits


def test_digits_have_one_fixed_stratified_split() -> None:
    data = load("digits")
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [1085, 357, 355]
    assert data.train.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert torch.cat([part.ids for part in parts]).sort().values.tolist() == list(range(1797))
    for part in parts:
        share = part.labels.bincount() / len(part)
        assert (share - 0.1).abs().max() < 0.01
    again = load("digits", seed=7, validation=3)
    assert all(
        torch.equal(a.ids, b.ids)
        for a, b in zip(parts, (again.train, again.validation, again.test), strict=True)
    )
    assert pixels(data.train).max() == 1


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    source: Any = load_digits()
    test = load("digits").test
    for i in (0, 100, 354):
        j = int(test.ids[i])
        assert test.labels[i] == source.target[j]
        expected = torch.from_numpy(source.images[j] / 16)
        assert (pixels(test)[i, 0].double() - expected).abs().max() < 0.5 / 255 + 1e-6


def test_training_on_few_images() -> None:
    few = load("digits", n=100, seed=4)
    assert len(few.train) == 100
    assert len(few.test) == 355
    assert torch.equal(few.train.ids, load("digits", n=200, seed=4).train.ids[:100])


# ------------------------------------------------------------------ specs


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar", "did you mean cifar10"),
        ("CIFAR10", "did you mean cifar10"),
        ("digits:here", "allowed: digits, cifar10"),
        ("npz", "npz:PATH"),
        ("", "allowed"),
        ("own.npz", "did you mean npz:own.npz"),
        ("imagefolder:/nowhere", "no such folder"),
        ("imagefolder:.,size=big", "number of pixels, not 'big'"),
        ("imagefolder:.,size=0", "at least 1 pixel"),
        (
            "cifar10:/nowhere",
            "CIFAR10 cannot be read from /nowhere.*cifar10:ROOT, or download it by .*download=true",
        ),
        ("svhn:/nowhere", "SVHN cannot be read"),
        ("mnist:/nowhere", "MNIST cannot be read from /nowhere"),
    ],
)
def test_unknown_and_missing_data_say_what_to_do(spec: str, message: str) -> None:
    for reader in (load, load_test):
        with pytest.raises(DataError, match=message) as caught:
            reader(spec)
        assert "\n" not in str(caught.value)


def test_a_folder_without_its_prefix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"did you mean imagefolder:{tmp_path}"):
        load(str(tmp_path))


# ------------------------------------------------------------------ image folders


def write_images(root: Path, counts: dict[str, int], size: tuple[int, int] = (12, 9)) -> None:
    for name, n in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", size, (i, len(name), 200)).save(root / name / f"{i:03}.png")


def test_one_folder_is_split_by_seed(tmp_path: Path) -> None:
    write_images(tmp_path, {"b": 15, "aa": 15})
    (tmp_path / "b" / "notes.txt").write_text("not an image")
    (tmp_path / "b" / "._000.png").write_text("not an image either")
    (tmp_path / ".cache").mkdir()
    data = load(f"imagefolder:{tmp_path},size=8")
    assert data.classes == ("aa", "b")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [25, 2, 3]
    assert data.train.shape == (3, 8, 8)
    whole = load_test(f"imagefolder:{tmp_path},size=8")
    x, y = whole.batch(torch.tensor([0, 16]))
    assert y.tolist() == [0, 1]
    assert torch.equal((x[:, :, 0, 0] * 255).round().int(), torch.tensor([[0, 2, 200], [1, 1, 200]]).int())
    ids = torch.cat([part.ids for part in (data.train, data.validation, data.test)])
    assert sorted(ids.tolist()) == list(range(30))
    assert whole.batch(torch.tensor([], dtype=torch.int64))[0].shape == (0, 3, 8, 8)
    assert torch.equal(whole.to("cpu").sample(3, seed=2).ids, whole.sample(9, seed=2).ids[:3])


def test_train_val_and_test_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"x": 20, "y": 20})
    write_images(tmp_path / "val", {"y": 3})
    data = load(f"imagefolder:{tmp_path},size=4")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [36, 4, 3]
    assert data.test.labels.tolist() == [1, 1, 1]
    write_images(tmp_path / "test", {"x": 2, "y": 3})
    data = load(f"imagefolder:{tmp_path},size=4")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [40, 3, 5]
    assert len(load_test(f"imagefolder:{tmp_path},size=4")) == 5
    write_images(tmp_path / "val", {"z": 1})
    with pytest.raises(DataError, match=r"class 'z' is not a class of train: x, y"):
        load(f"imagefolder:{tmp_path}")


def test_resize_keeps_proportions_and_crops_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255  # the middle third is white
    (tmp_path / "c").mkdir()
    for i in range(10):
        Image.fromarray(wide).save(tmp_path / "c" / f"{i}.png")
    x, _ = load_test(f"imagefolder:{tmp_path},size=20").batch(torch.tensor([0]))
    assert x.shape == (1, 3, 20, 20)
    assert x[..., 2:-2].min() > 0.95
    grey = Image.fromarray(wide[..., 0]).convert("L")
    grey.save(tmp_path / "c" / "0.png")
    assert torch.equal(load_test(f"imagefolder:{tmp_path},size=20").batch(torch.tensor([0]))[0], x)


def test_images_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 12})
    broken = tmp_path / "a" / "005.png"
    broken.write_bytes(broken.read_bytes()[:45])
    spec = f"imagefolder:{tmp_path}"
    for content in (broken.read_bytes(), b"", b"plain text"):
        broken.write_bytes(content)
        with pytest.raises(DataError, match=r"005\.png cannot be decoded"):
            pixels(load_test(spec))


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class folders"):
        load(f"imagefolder:{tmp_path}")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat has no images"):
        load(f"imagefolder:{tmp_path}")
    write_images(tmp_path / "train", {"a": 2})
    with pytest.raises(DataError, match="has only train"):
        load(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match="give a set with a test part"):
        load_test(f"imagefolder:{tmp_path}")


# ------------------------------------------------------------------ published sets


def write_idx(raw: Path, packed: bool) -> None:
    raw.mkdir(parents=True)
    for stem, n in (("train", 30), ("t10k", 4)):
        images = bytes(16) + bytes(i % 251 for i in range(n * 784))
        labels = bytes(8) + bytes(i % 10 for i in range(n))
        for kind, content in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            if packed:
                (raw / f"{kind}.gz").write_bytes(gzip.compress(content))
            else:
                (raw / kind).write_bytes(content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_mnist_is_read_packed_and_unpacked(tmp_path: Path, packed: bool, name: str, folder: str) -> None:
    write_idx(tmp_path / folder / "raw", packed)
    data = load(f"{name}:{tmp_path}")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [27, 3, 4]
    assert len(data.classes) == 10
    x, y = data.test.batch(torch.tensor([1]))
    assert y.item() == 1
    assert x[0, 0, 0, 0].item() == pytest.approx(784 % 251 / 255)


class Published:
    """Stands for a data set class of torchvision: arrays of the documented layout, no files."""

    classes = ("k0", "k1")

    def __init__(self, root: Path, train: bool = True, split: str = "train", download: bool = False) -> None:
        if not download:
            raise RuntimeError("Dataset not found")
        n = 30 if train and split == "train" else 5
        self.data: Any = np.full((n, 32, 32, 3), n, np.uint8)
        self.targets = [i % 2 for i in range(n)]


class PublishedSVHN(Published):
    def __init__(self, root: Path, split: str = "train", download: bool = False) -> None:
        super().__init__(root, split=split, download=download)
        self.data = self.data.transpose(0, 3, 1, 2)
        self.labels = np.array(self.targets)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_sets_of_torchvision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SimpleNamespace(CIFAR10=Published, CIFAR100=Published, SVHN=PublishedSVHN)
    monkeypatch.setattr(_torchvision, "load", lambda module: source)
    data = load(name, download=True)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [27, 3, 5]
    assert data.test.shape == (3, 32, 32)
    assert (pixels(data.test) == 5 / 255).all()
    assert len(data.classes) == (10 if name == "svhn" else 2)
    assert len(load_test(name, download=True)) == 5
    with pytest.raises(DataError, match="download=true"):
        load(name)


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def source(root: Path, train: bool, download: bool) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(_torchvision, "load", lambda module: SimpleNamespace(CIFAR10=source))
    with pytest.raises(DataError, match=r"no route to host\); check the network"):
        load("cifar10", download=True)


@pytest.mark.skipif("ROBUSTSABN_TEST_DATA" not in os.environ, reason="needs the real data")
def test_all_of_mnist() -> None:
    data = load(f"mnist:{os.environ['ROBUSTSABN_TEST_DATA']}")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [59000, 1000, 10000]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert pixels(data.test).mean().item() == pytest.approx(0.1325, abs=1e-4)
