"""Labels go by the names of classes between a run and any data, or are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustsabn.cli.support.subject import prepare
from robustsabn.data import ArraySet, Data, load, load_extra
from robustsabn.data.naming import by_name
from robustsabn.errors import DataError
from robustsabn.trainers import evaluate_run, train

COLOUR = {"ant": (220, 20, 20), "bee": (20, 220, 20), "cow": (20, 20, 220)}
CONFIG: dict[str, Any] = {
    "model": "resnet-digits",
    "data": "imagefolder:d,size=8",
    "method": "standard",
    "norm": "none",
    "device": "cpu",
    "steps": 12,
    "batch_size": 16,
    "optim": {"lr": 0.05},
    "attack": {"eps": 0.01},
    "test": {"steps": 1},
    "validation": {"steps": 1},
    "out": "r",
}


def pictures(root: str, names: dict[str, str], n: int = 10) -> None:
    """Folders by name of images in the colour of a class."""
    rng = np.random.default_rng(0)
    for name, of in names.items():
        Path(root, name).mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(np.array(COLOUR[of]) + rng.integers(-20, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(Path(root, name, f"{i}.png"))


def arrays(file: str, labels: list[str], **more: Any) -> str:
    """An archive of one image of each class of `labels`, by its place in COLOUR or in `classes`."""
    order = list(more.get("classes", list(COLOUR)))
    pixels = np.stack([np.full((8, 8, 3), COLOUR[name], np.uint8) for name in labels])
    np.savez(file, test_images=pixels, test_labels=np.array([order.index(name) for name in labels]), **more)
    return f"npz:{file}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("names")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        pictures("d", {name: name for name in COLOUR}, 40)
        train(CONFIG)
    return place


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def right(data: str) -> tuple[float, float]:
    """Clean accuracy of the run by both commands."""
    subject = prepare("r", data)
    found = (subject.model(subject.x).argmax(1) == subject.y).float().mean().item()
    return evaluate_run("r", attack="pgd-1", device="cpu", data=data).clean["all"], found


def test_a_folder_without_a_class_and_one_with_a_class_without_images() -> None:
    assert right("imagefolder:d,size=8") == (1, 1)
    pictures("sub", {"bee": "bee", "cow": "cow"})
    assert right("imagefolder:sub,size=8") == (1, 1)
    subject = prepare("r", "imagefolder:sub,size=8")
    assert (subject.classes, set(subject.y.tolist())) == (("ant", "bee", "cow"), {1, 2})
    named = arrays("more.npz", ["ant", "cow"], classes=np.array(["cow", "dog", "ant"]))
    assert right(named) == (1, 1)


def test_other_names_are_refused() -> None:
    pictures("other", {"ant": "ant", "Bee": "bee", "cow": "cow"})
    for call in (right, lambda data: load_extra(data, load("imagefolder:d,size=8"))):
        with pytest.raises(
            DataError, match=r"has images of 'Bee', which .* does not know; its classes are ant, bee"
        ):
            call("imagefolder:other,size=8")


def test_archives_by_number_are_said_and_by_name_in_any_order() -> None:
    unnamed = arrays("plain.npz", ["ant", "bee", "cow", "cow"])
    assert right(unnamed) == (1, 1)
    found = evaluate_run("r", attack="pgd-1", device="cpu", data=unnamed)
    assert any("labels are used as those of the run" in note for note in found.notes)
    turned = arrays("turned.npz", ["ant", "bee", "cow"], classes=np.array(["cow", "ant", "bee"]))
    assert right(turned) == (1, 1)
    np.savez("far.npz", test_images=np.zeros((2, 8, 8, 3), np.uint8), test_labels=np.array([0, 3]))
    with pytest.raises(
        DataError, match=r"has the label 3; the run trained on .* knows 0 to 2, ant, bee, cow"
    ):
        right("npz:far.npz")


def test_extra_images_go_by_name() -> None:
    like = load("imagefolder:d,size=8")
    pictures("some", {"cow": "cow", "ant": "ant"}, 3)
    assert load_extra("imagefolder:some,size=8", like).labels.tolist() == [0] * 3 + [2] * 3


@pytest.mark.parametrize("change", ["renamed", "fewer", "more"])
def test_a_run_goes_on_with_its_own_classes_alone(change: str, tmp_path: Path) -> None:
    names = {"renamed": {"zebu": "ant", "bee": "bee", "cow": "cow"}, "fewer": {"ant": "ant", "cow": "cow"}}
    more = {**{name: name for name in COLOUR}, "dog": "cow"}
    pictures(str(tmp_path / "d"), names.get(change, more), 20)
    with pytest.raises(
        DataError, match=r"has the classes .*, the run in r was trained on ant, bee, cow; restore"
    ):
        train({**CONFIG, "data": f"imagefolder:{tmp_path / 'd'},size=8", "steps": 14}, resume=True)


def test_numbers_that_are_sorted_as_text() -> None:
    images = ArraySet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    known = [str(k) for k in range(12)]
    found, note = by_name(images, ("1", "10", "2"), known, "there", "the run")
    assert (found.labels.tolist(), note) == ([1, 10, 2], None)
    assert found.ids.tolist() == [0, 1, 2]
    same, note = by_name(images, None, known, "there", "the run")
    assert (same, note) == (images, None)


def test_digits_and_letters_do_not_mix() -> None:
    digits = load("digits").train
    letters = Data(train=digits, validation=digits, test=digits, classes=tuple("abcdefghij"), name="letters")
    with pytest.raises(
        DataError, match="has images of '0', '1', '2', '3', '4' and 5 more, which letters does not know"
    ):
        load_extra("digits", letters)
