"""`robustsabn sample`: what it writes, and what it refuses in one line."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustsabn.cli import main
from robustsabn.data import load_test
from robustsabn.trainers import train
from robustsabn.trainers.gan.output import write
from robustsabn.trainers.gan.sampling import latents, load_generator, sample
from tests.helpers.gan_case import MakeNpz, tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, whose data set nobody needs any more."""
    place = tmp_path_factory.mktemp("gan") / "run"
    train(tiny(place, steps=2))
    return place


def test_a_picture_has_a_row_for_each_class(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    assert main(["sample", str(trained), "--classes", "3,0", "--n", "10", "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.mode == "L"
        assert picture.size == (4 * (5 * 9 - 1), 4 * (2 * 9 - 1))  # 8 pixels, a line between, each four times
        shown = np.asarray(picture)[::4, ::4]
    generator = load_generator(trained).generator
    images = sample(generator, torch.tensor([3] * 5 + [0] * 5), seed=0)
    first = (images[0, 0] * 255).round().byte().numpy()
    assert np.array_equal(shown[:8, :8], first)


def test_an_npz_and_a_folder_hold_the_same_images_and_are_data_sets(trained: Path, tmp_path: Path) -> None:
    words = ["sample", str(trained), "--n", "23", "--seed", "4", "--out"]
    assert main([*words, str(tmp_path / "x.npz")]) == 0
    assert main([*words, str(tmp_path / "folder")]) == 0
    with np.load(tmp_path / "x.npz") as found:
        images, labels = found["images"], found["labels"]
    assert images.shape == (23, 8, 8, 1)
    assert np.bincount(labels, minlength=10).tolist() == [3, 2, 2, 3, 2, 2, 3, 2, 2, 2]
    assert len(load_test(f"npz:{tmp_path / 'x.npz'}")) == 23
    files = sorted((tmp_path / "folder").glob("*/*.png"))
    assert [int(file.parent.name) for file in files] == labels.tolist()
    for file, image in zip(files, images, strict=True):
        with Image.open(file) as picture:
            assert np.array_equal(np.asarray(picture), image[..., 0])
    assert {path.name for path in tmp_path.iterdir()} == {"x.npz", "folder"}


def test_an_interpolation_begins_and_ends_at_its_classes(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "way.png"
    assert main(["sample", str(trained), "--interpolate", "2,7", "--n", "3", "--out", str(out)]) == 0
    with Image.open(out) as picture:
        shown = np.asarray(picture)[::4, ::4]
    assert shown.shape == (3 * 9 - 1, 9 * 9 - 1)
    generator = load_generator(trained).generator
    for name, columns in ((2, slice(0, 8)), (7, slice(72, 80))):
        (first, *_) = sample(generator, torch.tensor([name] * 3), seed=0)
        assert np.abs(shown[:8, columns].astype(int) - (first[0] * 255).numpy()).max() <= 1


def test_truncated_latents_stay_within_their_bound_and_keep_their_shape() -> None:
    class Net(torch.nn.Module):
        latent_dim = 50

    z = latents(Net(), 2000, seed=1, truncation=0.5)
    assert z.abs().max() <= 0.5
    # of a normal cut at t: variance 1 - 2 t phi(t) / (2 Phi(t) - 1)
    density, share = math.exp(-(0.5**2) / 2) / math.sqrt(2 * math.pi), math.erf(0.5 / math.sqrt(2))
    expected = 1 - 2 * 0.5 * density / share
    assert float(z.var()) == pytest.approx(
        float(expected), rel=0.02
    )  # of 100,000 numbers: 1 % is five deviations
    assert latents(Net(), 2000, seed=1).abs().max() > 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "0,12"], "no class '12'; this run has 0, 1,"),
        (["--classes", "3,3"], "3,3 names a class twice"),
        (["--classes", ""], "no class ''"),
        (["--n", "0"], "--n is 0"),
        (["--n", "5"], "--n 5 is fewer than the 10 classes"),
        (["--seed", "-1"], "--seed is -1"),
        (["--truncation", "0"], "--truncation must be a number above 0"),
        (["--interpolate", "4"], "give two different classes"),
        (["--interpolate", "4,5", "--classes", "4"], "leave --classes out"),
        (["--out", "images.jpg"], "give FILE.png, FILE.npz, or the name of a new folder"),
        (["--out", "there.png"], "there.png exists"),
        (["--out", "gone/x.png"], "there is no folder gone"),
        (["--interpolate", "4,5", "--out", "x.npz"], "an interpolation is a picture"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.png").touch()
    out = [] if "--out" in words else ["--out", "x.png"]
    assert main(["sample", str(trained), *words, *out]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_other_runs_and_folders_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("data: digits\nepochs: 2\n")
    for folder, said in (("run", "generates no images"), ("gone", "gone")):
        assert main(["sample", str(tmp_path / folder), "--out", str(tmp_path / "x.png")]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1


def test_a_class_without_training_images_is_not_generated(
    tmp_path: Path, npz: MakeNpz, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "x.npz"
    train(tiny(run, data=npz([0, 2] * 32, 3), images=None, steps=1, extractor=None, judge=None))
    assert main(["sample", str(run), "--n", "5", "--out", str(out)]) == 0
    assert "5 images of 2 classes" in capsys.readouterr().out
    with np.load(out) as found:
        assert found["labels"].tolist() == [0, 0, 0, 2, 2]
    for words in (["--classes", "0,1"], ["--interpolate", "1,2"]):
        assert main(["sample", str(run), *words, "--out", str(tmp_path / "y.png")]) == 2
        assert "class 1 had no training images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["cat", "猫"], ["cat", "猫"]),
        (["..", "a"], ["0", "1"]),
        (["a/b", "a-b"], ["0", "1"]),
        (["", "a"], ["0", "1"]),
        ([".hidden", "a"], ["0", "1"]),
        (["A", "a"], ["0", "1"]),
        (["x" * 256, "a"], ["0", "1"]),
    ],
)
def test_each_class_has_a_folder_inside_the_one_that_is_named(
    tmp_path: Path, names: list[str], folders: list[str]
) -> None:
    write(tmp_path / "out", torch.zeros(4, 1, 8, 8), torch.tensor([0, 0, 1, 1]), names)
    written = {str(path.relative_to(tmp_path).parent) for path in tmp_path.rglob("*.png")}
    assert written == {f"out/{folder}" for folder in folders}
    assert len(list(tmp_path.rglob("*.png"))) == 4
