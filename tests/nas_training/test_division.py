"""Which images train the weights, which the architecture, and which only measure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustsabn.config import load
from robustsabn.errors import ConfigError
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.division import Division, divide

NUMBERED = 40


@pytest.fixture
def numbered(tmp_path: Path) -> str:
    """A set whose images all differ: the number of an image is its first pixel; test images follow on."""
    arrays: dict[str, Any] = {}
    for part, first in (("train", 0), ("test", NUMBERED)):
        images = np.zeros((NUMBERED, 4, 4), dtype=np.uint8)
        images[:, 0, 0] = np.arange(first, first + NUMBERED)
        arrays |= {f"{part}_images": images, f"{part}_labels": np.arange(NUMBERED) % 2}
    np.savez(tmp_path / "numbered.npz", **arrays)
    return f"npz:{tmp_path / 'numbered.npz'}"


def divided(**changes: Any) -> Division:
    return divide(load(NasConfig, {"validation": {"images": 100}, **changes}))


def numbers(division: Division) -> dict[str, list[int]]:
    """The numbers of the images of each part."""
    parts = {"weights", "architecture", "held_out", "test"}
    found = {}
    for name in parts:
        images = getattr(division, name)
        pixels = images.images[:, 0, 0, 0].tolist()
        found[name] = sorted(pixels)
    return found


@pytest.mark.parametrize("how", ["train", "test", "validation"])
def test_no_image_has_two_purposes(numbered: str, how: str) -> None:
    found = numbers(divided(data=numbered, division=how))
    trained = found["weights"] + found["architecture"]
    assert len(set(trained + found["held_out"])) == len(trained) + len(found["held_out"])
    assert not set(trained) & set(found["test"])
    train, test = set(range(NUMBERED)), set(range(NUMBERED, 2 * NUMBERED))
    assert set(found["weights"]) <= train
    assert set(found["architecture"]) <= (test if how == "test" else train)
    sizes = {"train": (18, 18, 4), "test": (40, 20, 20), "validation": (36, 4, 40)}
    assert tuple(len(found[name]) for name in ("weights", "architecture", "held_out")) == sizes[how]


def test_the_division_does_not_depend_on_the_seed_of_the_run(numbered: str) -> None:
    first, second = (numbers(divided(data=numbered, seed=seed)) for seed in (0, 1))
    assert first == second


def test_a_split_file_of_the_benchmark_divides_the_training_images(numbered: str, tmp_path: Path) -> None:
    file = tmp_path / "cifar-split.txt"
    odd, even = [str(i) for i in range(1, NUMBERED, 2)], [str(i) for i in range(0, NUMBERED, 2)]
    file.write_text(json.dumps({"train": ["int", odd], "valid": ["int", even]}))
    found = numbers(divided(data=numbered, division=str(file)))
    assert found["weights"] == [int(i) for i in odd]
    assert found["architecture"] == [int(i) for i in even]
    assert found["held_out"] == list(range(NUMBERED, 2 * NUMBERED))


def test_a_split_file_of_the_benchmark_divides_the_test_images(numbered: str, tmp_path: Path) -> None:
    file = tmp_path / "cifar100-test-split.txt"
    file.write_text(json.dumps({"xvalid": ["int", ["0", "3"]], "xtest": ["int", ["1", "2", "4"]]}))
    found = numbers(divided(data=numbered, division=str(file)))
    assert found["weights"] == list(range(NUMBERED))
    assert found["architecture"] == [NUMBERED, NUMBERED + 3]
    assert found["held_out"] == [NUMBERED + 1, NUMBERED + 2, NUMBERED + 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "neither train, test, validation nor a file"),
        ("[1, 2]", "no mapping"),
        ("{", "cannot be read as JSON"),
        ('{"train": ["int", ["0"]]}', "has train; a split file of NAS-Bench-201 has train and valid"),
        ('{"train": ["int", ["0", "90"]], "valid": ["int", ["1"]]}', "image 90, but the set has 40"),
        ('{"train": ["int", ["0"]], "valid": ["int", ["0"]]}', "an image in both halves"),
        ('{"train": ["float", ["0"]], "valid": ["int", ["0"]]}', 'is not a list such as ["int"'),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused(
    numbered: str, tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "split.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as refused:
        divided(data=numbered, division=str(file))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_digits_are_divided_without_the_test_images() -> None:
    division = divided(validation={"images": 100})
    assert [len(getattr(division, name)) for name in ("weights", "architecture", "held_out")] == [
        543,
        542,
        100,
    ]
    assert "543 for the weights, 542 for the architecture" in division.note
