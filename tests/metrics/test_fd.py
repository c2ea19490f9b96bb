"""`robustsabn fd`: the table, the numbers as JSON, and one line for what cannot be measured."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from robustsabn.cli import main
from robustsabn.data import Data
from robustsabn.trainers import train
from tests.helpers.gan_case import tiny

pytestmark = pytest.mark.skipif(find_spec("torchmetrics") is None, reason="torchmetrics is not installed")


@pytest.fixture
def archive(tmp_path: Path, digits: Data) -> Path:
    """An .npz file of 200 digits."""
    x, y = digits.train.batch(torch.arange(200))
    path = tmp_path / "some.npz"
    np.savez(path, images=(x[:, 0] * 255).byte().numpy(), labels=y.numpy())
    return path


def test_the_table_and_the_numbers(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = archive.with_name("found.json")
    assert main(["fd", str(archive), "digits", "--only", "fid,floor,judged", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "fid[digits-cnn-64, n=200, ref=train]" in printed
    assert "class accuracy[digits-judge-64, n=200]" in printed
    assert "200 images against 1,085 of digits (train)" in printed
    assert printed.endswith(f"written to {out}\n")
    held = json.loads(out.read_text())
    assert held["basis"]["extractor"] == "digits-cnn-64"
    assert held["floor_images"] == 355
    assert held["numbers"]["class_accuracy"] > 0.95


def test_what_cannot_be_measured_is_one_line(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = archive.parent
    with np.load(archive) as held:
        images, labels = held["images"], held["labels"]
    np.savez(folder / "bright.npz", images=images.astype(np.float32), labels=labels)
    np.savez(folder / "no3.npz", images=images[labels != 3], labels=labels[labels != 3])
    np.savez(
        folder / "colours.npz", images=np.random.default_rng(0).integers(0, 256, (99, 8, 8, 3), np.uint8)
    )
    np.savez(folder / "large.npz", images=np.zeros((99, 9, 9), np.uint8))
    (folder / "empty").mkdir()
    (folder / "sweep" / "seed-0").mkdir(parents=True)
    (folder / "sweep" / "seed-0" / "config.yaml").write_text("task: gan\n")
    for argv, message in (
        ([archive, "digits", "--n", "50"], "more than 64 images, and there are 50"),
        ([folder / "bright.npz", "digits"], "floats must be in [0, 1]"),
        ([folder / "no3.npz", "digits"], "class 3 has 0 images"),
        ([folder / "colours.npz", "digits"], "these have 3"),
        ([folder / "large.npz", "digits"], "not 9 x 9"),
        ([folder / "empty", "digits"], "holds no images"),
        (["digits", folder / "empty"], "holds no images"),
        ([archive, "digits", "--extractor", f"inception:{folder / 'w.pth'}"], "no Inception weights"),
        ([archive, "digits", "--extractor", "own.py:make"], "no such file"),
        ([archive, "digits", "--only", "fud"], "did you mean fid"),
        ([archive, "digits", "--n", "0"], "--n must be at least 1"),
        ([archive, "digits", "--json", folder], "is a folder"),
        ([archive, "gone", "--json", archive / "x.json"], "some.npz: "),  # before anything is read
        ([folder / "sweep", "digits"], "is a sweep; give one of its runs, such as"),
    ):
        assert main(["fd", *map(str, argv)]) == 2, argv
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_samples_of_a_run_are_those_that_sample_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, held = str(tmp_path / "run"), []
    train(tiny(Path(run), steps=2))
    for name in ("a.npz", "folder"):
        assert main(["sample", run, "--n", "100", "--out", str(tmp_path / name)]) == 0
    for images in (run, str(tmp_path / "a.npz"), str(tmp_path / "folder")):
        out = tmp_path / "found.json"
        words = ["fd", images, "digits", "--n", "100", "--only", "fid,judged,inception_score"]
        assert main([*words, "--json", str(out)]) == 0
        held.append(json.loads(out.read_text())["numbers"])
    assert held[0]["fid"] == pytest.approx(held[1]["fid"], rel=1e-5)
    assert held[0]["fid"] == pytest.approx(held[2]["fid"], rel=1e-5)
    assert held[0]["class_accuracy"] == held[1]["class_accuracy"] == held[2]["class_accuracy"]
    capsys.readouterr()
    for argv, message in (
        (["digits", run], "give it first"),
        ([run, "digits", "--part", "test"], "has no parts"),
        (["digits", "digits", "--checkpoint", "best"], "is no run folder"),
    ):
        assert main(["fd", *argv]) == 2
        assert message in capsys.readouterr().err


def test_classes_are_compared_by_their_names(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(archive) as held:
        images, labels = held["images"], held["labels"]
    names = [str(k) for k in range(10)]
    turned = archive.with_name("turned.npz")
    np.savez(turned, images=images, labels=9 - labels, classes=names[::-1])
    np.savez(archive.with_name("other.npz"), images=images, labels=labels, classes=[f"x{k}" for k in names])
    out = archive.with_name("found.json")
    assert main(["fd", str(turned), "digits", "--only", "judged", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["numbers"]["class_accuracy"] > 0.95
    assert main(["fd", str(archive.with_name("other.npz")), "digits"]) == 0
    printed = capsys.readouterr().out
    assert "note: nothing is told by class" in printed
    assert "fid[digits-cnn-64, n=200, ref=train]" in printed
