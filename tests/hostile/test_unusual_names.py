"""Names that are not UTF-8: refused before the work for files to write, shown escaped elsewhere."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from robustsabn.cli import main
from robustsabn.errors import WriteError
from robustsabn.trainers import load_run_config, sweep, train

ODD = os.fsdecode(b"caf\xff")
SMALL = [
    "steps=1",
    "images=32",
    "batch_size=16",
    "test.images=4",
    "validation.images=4",
    "attack.steps=1",
    "device=cpu",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "digits", *SMALL, "test.autoattack=null", f"out={out}"]) == 0
    return out


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["train", "digits", *SMALL, f"out={ODD}"],
        ["train", "digits", *SMALL, f"out=a/{ODD}/b"],
        ["train", "digits", *SMALL, f"out={ODD}", "seeds=0"],
        ["autoattack", "--model", "run", "--data", "digits", "--norm", "Linf", "--eps", "0.1", "--out", ODD],
        ["export", "run", "--route", "adv", "--out", f"{ODD}.safetensors"],
        ["export", "run", "--route", "adv", "--out", f"{ODD}/a.safetensors"],
        ["stylize", "--run", "run", "--content", "a.png", "--style", "b.png", "--out", f"{ODD}.png"],
        ["compare", "run", "--html", f"{ODD}.html"],
        ["compare", "run", "--json", f"{ODD}/a.json"],
    ],
)
def test_nothing_is_written_under_such_a_name(
    here: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "is not UTF-8; choose another name" in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""  # before the work
    assert os.listdir(here) == ["run"]


def test_by_python(here: Path) -> None:
    for begin in (train, sweep):
        with pytest.raises(WriteError, match="UTF-8"):
            begin({"out": ODD})
    assert os.listdir(here) == ["run"]


def test_a_run_that_lies_in_such_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("run", ODD)
    for words in (["evaluate", ODD, "--attack", "pgd-1", "--n", "4"], ["report", ODD]):
        assert main(words) == 2
        assert "is not UTF-8" in capsys.readouterr().err
    os.chdir(ODD)  # by another name it is one as any other
    assert main(["evaluate", ".", "--attack", "pgd-1", "--n", "4"]) == 0
    assert main(["report", "."]) == 0


def test_data_of_such_a_name_are_read_and_remembered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8), np.arange(40) % 4
    with open(f"{ODD}.npz", "wb") as file:
        np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    words = [*SMALL, "test.autoattack=null", f"data=npz:{ODD}.npz", "out=here"]
    assert main(["train", "digits", *words]) == 0
    assert load_run_config("here").data == f"npz:{ODD}.npz"
    assert main(["train", "here/config.yaml", "--resume"]) == 0
    assert "has ended" in capsys.readouterr().out
    assert main(["evaluate", "here", "--attack", "pgd-1", "--n", "4"]) == 0
    assert main(["report", "here"]) == 0
    assert "caf" in Path("here/report/index.html").read_text(encoding="utf-8")
