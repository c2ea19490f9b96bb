"""Folders that are not writable and full disks are found before the work; numbers are printed first."""

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robustsabn import files
from robustsabn.attacks import PGD, AutoAttack
from robustsabn.cli import main
from robustsabn.trainers import train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from tests.helpers.runs import TINY

SMALL = [
    "steps=1",
    "images=32",
    "batch_size=16",
    "test.images=4",
    "test.autoattack=null",
    "attack.steps=1",
    "device=cpu",
]
ATTACK = [
    "autoattack",
    "--model",
    "run",
    "--data",
    "digits",
    "--norm",
    "Linf",
    "--eps",
    "0.1",
    "--n",
    "4",
    "--attacks",
    "apgd-ce",
    "--device",
    "cpu",
    "--out",
    "here",
]
EVALUATE = ["evaluate", "run", "--n", "4", "--device", "cpu", "--attack"]


@pytest.fixture
def here(ended: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ended.parent)
    return ended.parent


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*given: Any, **more: Any) -> Any:
        raise AssertionError("worked")

    monkeypatch.setattr(AutoAttack, "__call__", work)
    monkeypatch.setattr(PGD, "__call__", work)
    monkeypatch.setattr(AdversarialTraining, "step", work)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "digits", *SMALL, "out=here"],
        ["train", "digits", *SMALL, "out=here", "seeds=0"],
        ATTACK,
        [*EVALUATE, "autoattack:fast"],
    ],
)
def test_missing_room(
    here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_work(monkeypatch)
    monkeypatch.setattr("robustsabn.files.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    before = sorted(here.rglob("*"))
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "iB, but its disk has only 0 KiB left; free some space" in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("words", [[*EVALUATE, "pgd-1"], [*EVALUATE, "autoattack:fast"], ["report", "run"]])
def test_a_report_folder_that_cannot_be(
    here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_work(monkeypatch)
    Path("run/report").write_text("a file")
    assert main(words) == 2
    assert "run/report: File exists; check that the folder exists and is writable" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["train", "digits", *SMALL, "out=here"], ATTACK, [*EVALUATE, "pgd-1"]])
def test_a_folder_that_may_not_be_written(
    here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_work(monkeypatch)
    write = Path.write_bytes

    def refuse(self: Path, content: bytes) -> int:
        if self.name.startswith(files.ASIDE):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert main(words) == 2
    assert "Read-only file system; check that the folder" in capsys.readouterr().err
    assert os.listdir() == ["run"]


@pytest.mark.parametrize("words", [ATTACK, [*EVALUATE, "autoattack:fast"], [*EVALUATE, "pgd-1"]])
def test_numbers_that_cannot_be_written_are_printed(
    here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.fsync

    def full(handle: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{handle}")).endswith((".json", ".html", ".csv")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    if "autoattack" in words:  # beside the identity of its journal
        assert main(words) == 0
        words = [*words, "--resume"]
    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "No space left on device" in captured.err
    assert "%" in captured.out
    assert "clean" in captured.out


def test_an_evaluation_that_has_ended_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ATTACK) == 0
    before = Path("here/per_sample.csv").read_bytes()
    assert "already finished" not in capsys.readouterr().out
    assert main([*ATTACK, "--resume"]) == 0
    assert (
        "the evaluation in here was already finished: no image was attacked again" in capsys.readouterr().out
    )
    assert Path("here/per_sample.csv").read_bytes() == before


def test_an_evaluation_that_was_killed_before_its_identity_begins_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ATTACK) == 0
    whole = Path("here/per_sample.csv").read_bytes()
    moments = {
        "lock": [".lock"],
        "clean": [".lock", "journal/clean.safetensors"],
        "torn": ["journal/.writing-1", ".lock"],
    }
    for name, left in moments.items():
        for resume in ([], ["--resume"]):
            folder = Path(name + "".join(resume))
            (folder / "journal").mkdir(parents=True)
            for file in left:
                (folder / file).write_bytes(b"half")
            assert main([*ATTACK[:-1], str(folder), *resume]) == 0
            assert (folder / "per_sample.csv").read_bytes() == whole
            assert not list(folder.rglob(".*"))
    folder = Path("torn--resume")
    (folder / "journal" / "identity.json").unlink()  # of one that had got further
    (folder / "report.json").unlink()
    for resume in ([], ["--resume"]):
        assert main([*ATTACK[:-1], str(folder), *resume]) == 2


def test_every_file_of_a_run_has_the_mode_of_the_umask(here: Path) -> None:
    before = os.umask(0o007)
    try:
        train({**TINY, "ema": 0.5, "out": "shared"})
        assert main(["evaluate", "shared", "--n", "4", "--attack", "autoattack:fast"]) == 0
        assert main(["report", "shared"]) == 0
        assert main(["export", "shared", "--route", "adv", "--out", "shared/adv.safetensors"]) == 0
        assert main(ATTACK) == 0
    finally:
        os.umask(before)
    paths = [*Path("shared").rglob("*"), *Path("here").rglob("*")]
    assert len(paths) > 25
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o770 if path.is_dir() else 0o660), path
