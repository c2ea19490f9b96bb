"""Folders and archives that are probably laid out by mistake: refused, or said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustsabn.data import load, load_test
from robustsabn.data.specs import read_test
from robustsabn.errors import DataError


def pictures(place: Path, n: int = 6, end: str = "png") -> None:
    place.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("L", (4, 4), 20 * i).save(place / f"{i:02}.{end}")


def tree(root: Path, *places: str) -> str:
    for place in places:
        pictures(root / place)
    return f"imagefolder:{root},size=4"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("valid", "val"), ("validation", "val"), ("Dev", "val"), ("Test", "test"), ("testing", "test")],
)
def test_a_part_by_another_name_is_refused(name: str, meant: str, tmp_path: Path) -> None:
    spec = tree(tmp_path, "train/a", "train/b", "test/a", f"{name}/a", f"{name}/b")
    if name == "Test":
        spec = tree(tmp_path / "only", "train/a", "train/b", "Test/a")
    with pytest.raises(DataError, match=rf"/{name} is not used, .*rename it to {meant}"):
        load(spec)


def test_parts_are_no_classes(tmp_path: Path) -> None:
    spec = tree(tmp_path, "training/a", "training/b", "testing/a", "testing/b")
    for reader in (load, load_test):
        with pytest.raises(DataError, match=r"/testing is not used, .*rename it to test"):
            reader(spec)


def test_one_level_too_high(tmp_path: Path) -> None:
    spec = tree(tmp_path / "one", "images/cat", "images/dog")
    with pytest.raises(DataError, match=r"a level too high: give .*/one/images"):
        load(spec)
    spec = tree(tmp_path / "two", "x/cat", "x/dog", "y/cat", "y/dog")
    with pytest.raises(DataError, match=r"has no images in x, y, but in the folders cat, dog of each"):
        load(spec)
    spec = tree(tmp_path / "three", "cat/images", "dog/images")  # as Tiny ImageNet has it
    assert load(spec).classes == ("cat", "dog")
    spec = tree(tmp_path / "four", "cat/tabby", "cat/siamese", "dog/pug")
    assert load(spec).classes == ("cat", "dog")


def test_one_level_too_low(tmp_path: Path) -> None:
    tree(tmp_path, "cat", "dog")
    with pytest.raises(DataError, match=rf"it has images itself: give the folder above, {tmp_path}"):
        load(f"imagefolder:{tmp_path}/cat")


def test_one_class_is_nothing_to_train_on(tmp_path: Path) -> None:
    spec = tree(tmp_path, "cat")
    pictures(tmp_path / "cat", 12)
    with pytest.raises(DataError, match="only one class, 'cat'"):
        load(spec)
    assert len(load_test(spec)) == 12
    np.savez(tmp_path / "one.npz", images=np.zeros((20, 4, 4), np.uint8), labels=np.zeros(20, int))
    with pytest.raises(DataError, match="only one class, '0'"):
        load(f"npz:{tmp_path / 'one.npz'}")


def test_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    spec = tree(tmp_path, "cat", "dog", "cat/.ipynb_checkpoints", ".thumbnails", "dog/.cache/deep")
    data = load(spec)
    assert len(data.train) + len(data.validation) + len(data.test) == 12
    assert all("test image" in note for note in data.notes)


def test_what_lies_beside_and_is_not_used_is_said(tmp_path: Path) -> None:
    spec = tree(tmp_path, "train/a", "train/b", "test/a", "test/b", "masks/a")
    pictures(tmp_path / "train")
    (tmp_path / "test" / "a" / "notes.txt").touch()
    notes = load(spec).notes
    assert any("other folders are not used: masks" in note for note in notes)
    assert any("6 images outside of class folders, which are not used: 00.png" in note for note in notes)
    assert any("test: 1 files in its class folders are not images" in note for note in notes)
    assert (
        load(f"imagefolder:{tmp_path}/train,size=4")
        .notes[0]
        .endswith(f"is one part of {tmp_path}, and the folder test beside it is not used")
    )


@pytest.mark.parametrize("name", ["scan.dcm", "photo.HEIC", "array.npy"])
def test_pictures_of_a_kind_that_is_not_read_are_refused(name: str, tmp_path: Path) -> None:
    spec = tree(tmp_path, "cat", "dog")
    (tmp_path / "dog" / name).touch()
    with pytest.raises(DataError, match=rf"{name} cannot be read; convert or remove it"):
        load(spec)


def test_every_kind_that_is_read_counts(tmp_path: Path) -> None:
    for end in ("png", "jpg", "jfif", "gif", "pgm", "tif", "JPEG"):
        pictures(tmp_path / "cat" / end, 2, end)
    pictures(tmp_path / "dog")
    assert len(load_test(f"imagefolder:{tmp_path},size=4")) == 7 * 2 + 6


def test_an_empty_class_of_one_part_is_refused(tmp_path: Path) -> None:
    spec = tree(tmp_path, "train/a", "train/b", "test/a")
    (tmp_path / "test" / "b").mkdir()
    with pytest.raises(DataError, match=r"test/b has no images"):
        load(spec)


def archive(path: Path, **more: Any) -> str:
    pixels, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    parts: dict[str, Any] = {
        f"{part}_{kind}": value
        for part in ("train", "test")
        for kind, value in (("images", pixels), ("labels", labels))
    }
    np.savez(path / "own.npz", **parts, **more)
    return f"npz:{path / 'own.npz'}"


def test_an_archive_in_three_parts(tmp_path: Path) -> None:
    """MedMNIST's layout: val_images, and labels of shape (N, 1)."""
    val = {"val_images": np.ones((4, 4, 4), np.uint8), "val_labels": np.array([[0], [1], [1], [1]])}
    data = load(archive(tmp_path, **val))
    assert (len(data.train), data.validation.labels.tolist(), len(data.test)) == (20, [0, 1, 1, 1], 20)
    assert len(load_test(archive(tmp_path, **val))) == 20


def test_arrays_by_another_name_are_refused_or_said(tmp_path: Path) -> None:
    spec = archive(tmp_path, valid_images=np.zeros((2, 4, 4), np.uint8), valid_labels=np.zeros(2, int))
    with pytest.raises(DataError, match=r"valid_images is not used, .*rename it to val_images"):
        load(spec)
    spec = archive(tmp_path, more_images=np.zeros((2, 4, 4), np.uint8))
    assert f"{spec[4:]}: these arrays are not used: more_images" in read_test(spec).notes


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classes has 'a' more than once"):
        load(archive(tmp_path, classes=np.array(["a", "a"])))


def test_images_that_were_not_scaled_to_255_are_said(tmp_path: Path) -> None:
    labels = np.arange(20) % 2
    for most, said in ((1, True), (2, False)):
        images = np.full((20, 4, 4), most, np.uint8)
        np.savez(tmp_path / "a.npz", images=images, labels=labels)
        notes = load(f"npz:{tmp_path / 'a.npz'}").notes
        assert any("no pixel is above 1 of 255" in note for note in notes) is said
