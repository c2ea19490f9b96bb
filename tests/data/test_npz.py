"""Own arrays from an .npz file, and every way such a file can be wrong."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustsabn.data import load, load_test
from robustsabn.errors import DataError

RNG = np.random.default_rng(0)


def images(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def labels(n: int, k: int = 4) -> np.ndarray[Any, Any]:
    return np.arange(n) % k


def write(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "own.npz", **arrays)
    return f"npz:{folder / 'own.npz'}"


def test_colour_images_become_channels_first(tmp_path: Path) -> None:
    pixels = images(12, 5, 6, 3)
    test = load_test(write(tmp_path, images=pixels, labels=labels(12)))
    x, y = test.batch(torch.tensor([7, 2]))
    assert (test.shape, x.dtype, y.tolist()) == ((3, 5, 6), torch.float32, [3, 2])
    assert x[0, 1, 4, 5].item() == pytest.approx(pixels[7, 4, 5, 1] / 255)
    assert torch.equal(
        (x * 255).round().byte(), torch.from_numpy(pixels[[7, 2]].transpose(0, 3, 1, 2).copy())
    )


@pytest.mark.parametrize("shape", [(12, 5, 6), (12, 5, 6, 1)])
def test_grey_images_have_one_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert load_test(write(tmp_path, images=images(*shape), labels=labels(12))).shape == (1, 5, 6)


def test_train_and_test_arrays_are_used_as_they_are(tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        train_images=images(40, 4, 4),
        train_labels=labels(40).astype(np.uint8),
        test_images=images(9, 4, 4),
        test_labels=labels(9).astype(np.int16),
        file_names=np.array(["ignored"]),
    )
    data = load(spec, validation=3)
    assert (len(data.train), len(data.validation), len(data.test)) == (37, 3, 9)
    assert data.classes == ("0", "1", "2", "3")
    assert torch.equal(data.test.labels, load_test(spec).labels)
    assert len(load(spec).validation) == 4  # a tenth at most


def test_one_part_is_split_for_training_and_whole_for_evaluation(tmp_path: Path) -> None:
    spec = write(tmp_path, images=images(100, 4, 4), labels=labels(100))
    data = load(spec, seed=1)
    assert (len(data.train), len(data.validation), len(data.test)) == (81, 9, 10)
    assert len(load_test(spec)) == 100
    pixels = [part.batch(torch.arange(len(part)))[0] for part in (data.train, data.validation, data.test)]
    assert len({tuple(image.flatten().tolist()) for image in torch.cat(pixels)}) == 100
    assert not torch.equal(load(spec, seed=2).test.labels, data.test.labels)


def test_a_part_of_a_sorted_set_is_drawn_by_seed(tmp_path: Path) -> None:
    spec = write(tmp_path, images=images(100, 4, 4), labels=np.arange(100) // 25)
    few, more, other = load_test(spec, 10), load_test(spec, 30), load_test(spec, 10, seed=1)
    assert few.labels.min() < few.labels.max()
    assert torch.equal(few.ids, more.ids[:10])
    assert not torch.equal(few.ids, other.ids)
    assert torch.equal(few.labels, torch.from_numpy(np.arange(100) // 25)[few.ids])


@pytest.mark.parametrize("kind", ["U", "S"])
def test_named_classes_may_lack_images(tmp_path: Path, kind: str) -> None:
    spec = write(
        tmp_path,
        images=images(20, 4, 4),
        labels=labels(20, 2) * 2,
        classes=np.array(["cat", "dog", "ox"]).astype(kind),
    )
    assert load(spec).classes == ("cat", "dog", "ox")


def test_evaluation_needs_no_contiguous_labels(tmp_path: Path) -> None:
    spec = write(tmp_path, images=images(20, 4, 4), labels=labels(20) * 7)
    assert load_test(spec).labels.max() == 21


GOOD: dict[str, Any] = {"images": images(20, 4, 4, 3), "labels": labels(20)}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no arrays at all": ({"pictures": images(2, 4, 4)}, "has no images"),
    "no labels": ({"images": images(20, 4, 4)}, "no labels"),
    "no images": ({"test_labels": labels(20)}, "no test_images"),
    "float images": (GOOD | {"images": RNG.random((20, 4, 4))}, "must be uint8, not float64; scale"),
    "integer images": (GOOD | {"images": np.zeros((20, 4, 4), np.int64)}, "must be uint8, not int64"),
    "flat images": (GOOD | {"images": images(20, 16)}, r"must have shape \(N, H, W\)"),
    "channels first": (GOOD | {"images": images(20, 3, 8, 8)}, r"images.transpose\(0, 2, 3, 1\)"),
    "empty": ({"images": images(0, 4, 4), "labels": labels(0)}, "is empty"),
    "empty pixels": ({"images": images(20, 0, 4), "labels": labels(20)}, "is empty"),
    "mismatched lengths": (GOOD | {"labels": labels(19)}, r"must have shape \(20,\)"),
    "one-hot labels": (GOOD | {"labels": np.eye(20, dtype=int)}, r"must have shape \(20,\)"),
    "float labels": (GOOD | {"labels": labels(20) * 1.0}, "must be integers, not float64"),
    "string labels": (GOOD | {"labels": np.array(["a"] * 20)}, "must be integers"),
    "negative labels": (GOOD | {"labels": labels(20) - 1}, "negative label -1"),
    "labels with a gap": (GOOD | {"labels": labels(20) * 2}, "1 is missing and the largest is 6"),
    "labels from 1": (GOOD | {"labels": labels(20) + 1}, "0 is missing"),
    "label without a name": (GOOD | {"classes": np.array(["a", "b"])}, "label 3, but classes names 2"),
    "numbers as classes": (GOOD | {"classes": np.arange(4)}, "classes must be"),
    "pickled classes": (GOOD | {"classes": np.array(["a", "b", "c", "d"], object)}, "classes holds pickled"),
    "pickled labels": (GOOD | {"labels": np.array(list(range(20)), object)}, "labels holds pickled"),
    "two layouts": (GOOD | {f"train_{k}": v for k, v in GOOD.items()}, "both images and train_images"),
    "train without test": ({f"train_{k}": v for k, v in GOOD.items()}, "needs a train and a test part"),
    "test without train": ({f"test_{k}": v for k, v in GOOD.items()}, "needs a train and a test part"),
    "too few to split": ({"images": images(5, 4, 4), "labels": labels(5)}, "needs 10"),
    "sizes differ": (
        {"train_images": images(9, 4, 4), "train_labels": labels(9)}
        | {"test_images": images(9, 5, 5), "test_labels": labels(9)},
        "differ",
    ),
    "unseen label in test": (
        {"train_images": images(9, 4, 4), "train_labels": labels(9)}
        | {"test_images": images(9, 4, 4), "test_labels": labels(9, 6)},
        "test has the label 5, but the labels of train end at 3",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_one_line_errors(tmp_path: Path, case: str) -> None:
    arrays, message = WRONG[case]
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path, **arrays))
    assert "own.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    text, single, cut = tmp_path / "text.npz", tmp_path / "single.npz", tmp_path / "cut.npz"
    text.write_text("not a zip")
    with single.open("wb") as file:
        np.save(file, images(3, 4, 4))
    np.savez_compressed(cut, images=images(200, 8, 8), labels=labels(200))
    cut.write_bytes(cut.read_bytes()[:2000])
    for path in (text, single, cut):
        with pytest.raises(DataError, match=r"is not an \.npz archive"):
            load(f"npz:{path}")
    with pytest.raises(DataError, match="no such file"):
        load(f"npz:{tmp_path / 'absent.npz'}")


def test_damaged_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **GOOD)
    content = bytearray(path.read_bytes())
    content[300] ^= 255  # among the pixels: the archive's checksum notices
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"own\.npz cannot be read"):
        load(f"npz:{path}")


def test_an_archive_without_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("images.txt", "hello")
    with pytest.raises(DataError, match="has no images"):
        load_test(f"npz:{tmp_path / 'own.npz'}")
