"""A run and its data: which images it is tested on, what a resume needs, warnings about doubtful numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from robustsabn.cli import main
from robustsabn.cli.support.subject import prepare
from robustsabn.data import load, load_test
from robustsabn.data.content import digest
from robustsabn.data.sources import read
from robustsabn.errors import DataError
from robustsabn.models import build
from robustsabn.trainers import evaluate_run, train
from robustsabn.trainers.adversarial.evaluation.chance import chance_note

CONFIG: dict[str, Any] = {
    "model": "resnet-digits",
    "data": "npz:own.npz",
    "method": "standard",
    "norm": "none",
    "device": "cpu",
    "steps": 4,
    "batch_size": 16,
    "attack": {"eps": 0.01},
    "test": {"steps": 1},
    "validation": {"steps": 1},
    "out": "r",
}


def own(seed: int = 0, file: str = "own.npz", n: int = 60) -> str:
    """An archive of two classes that a network learns at once, bright and dark."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    pixels = rng.integers(0, 100, (n, 8, 8), dtype=np.uint8) + (150 * labels[:, None, None]).astype(np.uint8)
    np.savez(file, images=pixels, labels=labels)
    return f"npz:{file}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("run_data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found)
        own()
        train(CONFIG)
    return found


@pytest.fixture(autouse=True)
def _here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def test_all_commands_test_the_same_images() -> None:
    ids = load("npz:own.npz").test.ids
    assert len(ids) == 6
    lines = [json.loads(line) for line in Path("r/metrics.jsonl").read_text().splitlines()]
    closed = next(line for line in lines if line["kind"] == "test")
    found = evaluate_run("r", attack="pgd-1", device="cpu")
    assert (found.clean, found.robust, found.n) == (closed["clean"], closed["robust"], 6)
    shutil.copy("own.npz", "moved.npz")  # the same set by another name
    for spec in ("npz:own.npz", "npz:./own.npz", "npz:moved.npz"):
        subject = prepare("r", spec)
        assert torch.equal(subject.ids, ids)
        assert not subject.notes


def test_another_set_without_parts_is_evaluated_whole_and_said() -> None:
    found = evaluate_run("r", attack="pgd-1", device="cpu", data=own(1, "other.npz"))
    assert found.n == 60
    assert any("no test part: all of its 60 images" in note for note in found.notes)
    save_file(build("resnet-digits", 2, 1).state_dict(), "w.safetensors")
    subject = prepare("resnet-digits", "npz:own.npz", weights="w.safetensors")
    assert len(subject.y) == len(load_test("npz:own.npz")) == 60
    assert "also those that the model may have been trained on" in subject.notes[0]


def test_a_set_that_changed_since_is_said_in_evaluation() -> None:
    own(seed=2)
    assert any("has changed since" in note for note in evaluate_run("r", attack="pgd-1", device="cpu").notes)


@pytest.mark.parametrize("what", ["pixel", "label", "order"])
def test_a_run_does_not_go_on_with_data_that_changed(what: str) -> None:
    arrays = dict(np.load("own.npz"))
    if what == "pixel":
        arrays["images"][7, 3, 3] ^= 1
    elif what == "label":
        arrays["labels"][7] = 0
    else:
        arrays = {name: value[::-1] for name, value in arrays.items()}
    np.savez("own.npz", **arrays)
    with pytest.raises(DataError, match=r"the content of npz:own\.npz has changed since the run in r began"):
        train({**CONFIG, "steps": 6}, resume=True)


def test_a_run_goes_on_with_the_same_data_written_anew_or_named_otherwise() -> None:
    arrays = dict(np.load("own.npz"))
    np.savez_compressed("own.npz", **arrays)
    assert train({**CONFIG, "steps": 5}, resume=True).steps == 5
    Path("own.npz").rename("moved.npz")
    assert train({**CONFIG, "steps": 6, "data": "npz:moved.npz"}, resume=True).steps == 6


def test_extra_images_that_changed_are_refused_too() -> None:
    config = {**CONFIG, "extra": {"data": own(1, "more.npz"), "fraction": 0.5}, "out": "e"}
    train(config)
    assert train({**config, "steps": 5}, resume=True).steps == 5
    own(2, "more.npz")
    with pytest.raises(DataError, match=r"the content of npz:more\.npz has changed"):
        train({**config, "steps": 6}, resume=True)


def test_checkpoints_from_before_say_nothing_of_content() -> None:
    from robustsabn.trainers.checkpoints.files import Checkpoint, read, write

    found = read(Path("r/checkpoints"), "last")
    kept = {
        name: value for name, value in found.state.items() if name not in ("content", "files", "versions")
    }
    write(Path("r/checkpoints"), Checkpoint(found.tensors, kept), ("last", "best"))
    own(seed=2)
    assert evaluate_run("r", attack="pgd-1", device="cpu").n == 6
    assert train({**CONFIG, "steps": 5}, resume=True).steps == 5


def test_the_digest_of_a_folder_is_that_of_names_and_content(monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(8):
        Path("d", "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(f"d/{'ab'[i % 2]}/{i}.bmp")

    def told(folder: str) -> str:
        source = read(f"imagefolder:{folder},size=4")
        return digest(source.parts, source.names)

    before = told("d")
    shutil.copytree("d", "elsewhere")
    assert told("elsewhere") == before
    Image.new("RGB", (4, 4), (9, 0, 0)).save("d/a/2.bmp")  # as many bytes
    assert told("d") != before
    Path("elsewhere/a/2.bmp").rename("elsewhere/a/3.bmp")
    assert told("elsewhere") != before
    monkeypatch.setattr("robustsabn.data.content._WHOLE", 0)
    monkeypatch.setattr("robustsabn.data.content._SAMPLE", 2)
    sampled = told("d")
    Path("d/a/4.bmp").write_bytes(Path("d/a/4.bmp").read_bytes() + b"more")
    assert told("d") != sampled


# ------------------------------------------------------------------ doubtful numbers


def test_forgotten_weights_are_said_at_the_top(capsys: pytest.CaptureFixture[str]) -> None:
    ball = ["--norm", "Linf", "--eps", "0.01", "--attacks", "apgd-ce", "--device", "cpu", "--n", "16"]
    assert main(["autoattack", "--model", "resnet-digits", "--data", "npz:own.npz", *ball, "--out", "a"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("warning: resnet-digits has random weights; ")
    flags = json.loads(Path("a/report.json").read_text())["flags"]
    assert any(flag["name"] == "doubtful" and "random weights" in flag["message"] for flag in flags)
    assert any(flag["name"] == "data" and flag["severity"] == "note" for flag in flags)


def test_accuracy_of_guessing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    arrays = dict(np.load("own.npz"))
    arrays["labels"] = 1 - arrays["labels"]  # numbered the other way round
    np.savez("turned.npz", **arrays)
    assert main(["evaluate", "r", "--attack", "pgd-1", "--device", "cpu", "--data", "npz:turned.npz"]) == 0
    said = capsys.readouterr().out
    assert said.index("not clearly better than guessing among 2 classes") < said.index("clean images")
    subject = prepare("r", "npz:turned.npz")
    assert any("not clearly better than guessing" in doubt for doubt in subject.doubts)
    assert "notes" in json.loads(Path("r/report/evaluation.json").read_text())


def test_a_network_that_names_more_classes_than_the_data_is_said() -> None:
    save_file(build("resnet-digits", 5, 1).state_dict(), "five.safetensors")
    np.savez("named.npz", **np.load("own.npz"), classes=np.array(["dark", "bright"]))
    subject = prepare("resnet-digits", "npz:named.npz", weights="five.safetensors", num_classes=5)
    assert any("has 5 classes, but the data names 2: label k" in doubt for doubt in subject.doubts)


def test_a_label_far_too_large_asks_for_no_network() -> None:
    np.savez("far.npz", test_images=np.zeros((2, 8, 8), np.uint8), test_labels=np.array([0, 10**12]))
    with pytest.raises(DataError, match=r"the largest label is 1000000000000; .*--num-classes"):
        prepare("resnet-digits", "npz:far.npz")


@pytest.mark.parametrize(
    ("right", "n", "classes", "doubtful"),
    [
        (10, 100, 10, True),
        (15, 100, 10, True),
        (17, 100, 10, False),
        (0, 128, 1000, True),
        (5, 5, 2, False),
        (60, 100, 2, True),
        (61, 100, 2, False),
        (3, 3, 10, False),
    ],
)
def test_chance_is_two_standard_deviations_wide(right: int, n: int, classes: int, doubtful: bool) -> None:
    assert (chance_note(right, n, classes) is not None) == doubtful
