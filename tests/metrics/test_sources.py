"""Images named on the command line: folders, archives, data sets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustsabn.errors import DataError
from robustsabn.metrics.images import batches, count
from robustsabn.metrics.sources import Source, source


def pictures(folder: Path, n: int = 4, size: tuple[int, int] = (8, 8)) -> Path:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("L", size, 10 * i).save(folder / f"{i}.png")
    return folder


def content(found: Source) -> tuple[Tensor, Tensor | None]:
    images, labels = zip(*batches(found.images, found.labels, what="they", size=3), strict=True)
    return torch.cat(images), None if labels[0] is None else torch.cat(labels)


def test_a_folder_of_pictures_has_no_labels(tmp_path: Path) -> None:
    found = source(str(pictures(tmp_path / "flat")))
    images, labels = content(found)
    assert images.shape == (4, 3, 8, 8)
    assert [round(float(x.mean() * 255)) for x in images] == [0, 10, 20, 30]
    assert labels is None
    assert (found.split, found.held_out) == ("all", None)


def test_a_folder_of_class_folders_has_labels(tmp_path: Path) -> None:
    for name in "ab":
        pictures(tmp_path / "set" / name, 3)
    _, labels = content(source(str(tmp_path / "set")))
    assert labels is not None
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_set_with_parts_is_its_training_part_and_holds_out_the_test_part(tmp_path: Path) -> None:
    found = source("digits")
    assert (found.split, count(found.images)) == ("train", 1085)
    assert found.held_out is not None
    assert len(found.held_out) == 355
    test = source("digits", "test")
    assert (test.split, count(test.images), test.held_out) == ("test", 355, None)
    with pytest.raises(DataError, match="no part all; it has train, validation, test"):
        source("digits", "all")


def test_archives_with_labels_and_without(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=array, labels=np.arange(6) % 2)
    np.savez(tmp_path / "b.npz", images=array)
    np.savez(tmp_path / "c.npz", array)
    np.savez(tmp_path / "d.npz", images=(array / 255).astype(np.float32), labels=np.arange(6) % 2)
    first, labels = content(source(str(tmp_path / "a.npz")))
    assert labels is not None
    assert labels.tolist() == [0, 1] * 3
    for name in "bcd":
        images, known = content(source(str(tmp_path / f"{name}.npz")))
        assert torch.equal(images, first)
        assert (known is None) == (name != "d")


def test_some_of_the_images(tmp_path: Path) -> None:
    few = source("digits").sample(7, seed=1)
    assert count(few.images) == 7
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 5, 5), np.float32), labels=np.arange(6))
    held = source(str(tmp_path / "a.npz")).sample(4, seed=1)
    assert held.labels is not None
    assert count(held.images) == len(set(held.labels.tolist())) == 4
    with pytest.raises(DataError, match="the number of images is 7, but the set has 6"):
        source(str(tmp_path / "a.npz")).sample(7)


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pictures(tmp_path / "mixed")
    Image.new("L", (9, 9)).save(tmp_path / "mixed" / "other.png")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"none")
    (tmp_path / "text.npz").write_text("none")
    np.savez(tmp_path / "ints.npz", images=np.zeros((3, 4, 4), np.int64))
    np.savez(tmp_path / "flat.npz", images=np.zeros((3, 4), np.uint8))
    np.savez(tmp_path / "other.npz", pictures=np.zeros((3, 4, 4), np.uint8))
    for name, message in {
        "empty": "holds no images",
        "mixed": "imagefolder:PATH,size=8",
        "bad": r"a\.png cannot be decoded",
        "text.npz": "not an .npz archive",
        "ints.npz": "must be uint8, or floats",
        "flat.npz": r"\(3, 4\)",
        "other.npz": "has no images",
        "absent.npz": "no such file",
        "absent": "no such folder",
    }.items():
        with pytest.raises(DataError, match=message):
            source(str(tmp_path / name))
