"""Two commands never write into one folder, whatever they are; the second says who holds it."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.attacks import AutoAttack, ThreatModel
from robustsabn.cli import main
from robustsabn.errors import ConfigError, FolderInUseError, TrainingError
from robustsabn.locks import LOCK, locked
from robustsabn.trainers import sweep, train
from robustsabn.trainers.adversarial.evaluation.reported import attack_run
from robustsabn.trainers.runs.folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.runs import TINY

HOLD = """
import sys
from pathlib import Path
from robustsabn.locks import locked
with locked(Path(sys.argv[1]), *sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")


@contextlib.contextmanager
def holder(folder: Path, *name: str) -> Iterator[int]:
    """The number of another process that holds `folder`."""
    command = [sys.executable, "-c", HOLD, str(folder), *name]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def words(run: Path) -> dict[str, tuple[list[str], Path, tuple[str, ...]]]:
    """Commands by verb, the folder that each writes into, and the name of its lock."""
    small = ["steps=1", "test.images=4", "device=cpu", "images=32", "batch_size=16"]
    attack = [
        "autoattack",
        "--model",
        str(run),
        "--data",
        "digits",
        "--norm",
        "Linf",
        "--eps",
        "0.1",
        "--n",
        "2",
    ]
    free = run.parent / "free"
    return {
        "train": (["train", "digits", *small, f"out={free}"], free, ()),
        "train --resume": (["train", str(run / "config.yaml"), "--resume", f"out={run}"], run, ()),
        "a sweep": (["train", "digits", *small, "seeds=0", f"out={free}"], free, ()),
        "autoattack": ([*attack, "--out", str(free), "--device", "cpu"], free, ()),
        "evaluate": (["evaluate", str(run), "--attack", "pgd-1", "--n", "2"], run / "report", ()),
        "report": (["report", str(run)], run / "report", ()),
        "export": (
            ["export", str(run), "--route", "adv", "--out", str(free / "a.safetensors")],
            free,
            (f".a.safetensors{LOCK}",),
        ),
    }


VERBS = ("train", "train --resume", "a sweep", "autoattack", "evaluate", "report", "export")


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_in_use_is_refused_by_every_verb(
    ended: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, folder, name = words(ended)[verb]
    before = sorted(path for path in ended.rglob("*") if path.is_file())
    with locked(folder, *name):
        assert main(command) == 2
        captured = capsys.readouterr()
        assert f"{folder} is in use by process {os.getpid()} on " in captured.err
        assert captured.err.count("\n") == 1
    assert sorted(path for path in ended.rglob("*") if path.is_file()) == before


def test_another_process_is_named_until_it_is_killed(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, folder, name = words(ended)["evaluate"]
    with holder(folder, *name) as number:
        assert main(command) == 2
        assert f"in use by process {number} on " in capsys.readouterr().err
    assert (folder / LOCK).exists()  # what a kill leaves
    assert main(command) == 0
    assert not (folder / LOCK).exists()


def test_autoattack_in_python_and_a_report_of_a_run(ended: Path, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    attack = AutoAttack(ThreatModel("Linf", 0.1), version="fast", folder=tmp_path / "here")
    x = torch.rand(2, 1, 8, 8)
    with locked(tmp_path / "here" / "journal"), pytest.raises(FolderInUseError, match="journal is in use by"):
        attack(model, x, model(x).argmax(1))
    assert attack(model, x, model(x).argmax(1)).n == 2
    with locked(ended / "report" / "autoattack-fast-adv"), pytest.raises(FolderInUseError):
        attack_run(ended, "autoattack:fast", route="adv", n=2)
    assert not (ended / "report" / "autoattack-fast-adv").exists()


def test_a_folder_of_another_verb_is_refused(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack, evaluated, _ = words(ended)["autoattack"]
    assert main([*attack, "--attacks", "apgd-ce"]) == 0
    for begin in (train, sweep):
        with pytest.raises(ConfigError, match="holds an evaluation by autoattack"):
            begin({**TINY, "out": str(evaluated)})
    capsys.readouterr()
    for place, said in ((ended, "is not empty"), (ended / "checkpoints", "is not empty")):
        assert main([*attack[:-3], str(place)]) == 2
        assert said in capsys.readouterr().err
    best = ended / "checkpoints" / "best" / "model.safetensors"
    before = best.read_bytes()
    assert main(["export", str(ended), "--route", "adv", "--out", str(best)]) == 2
    assert "is a checkpoint of a run" in capsys.readouterr().err
    assert best.read_bytes() == before


def test_who_is_quicker_gets_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = RunFolder.choose
    calls: list[None] = []

    def choose(*given: Any) -> RunFolder:
        folder = chosen(*given)
        if not calls:
            held.enter_context(locked(folder.path))  # another command in between
            calls.append(None)
        return folder

    monkeypatch.setattr(RunFolder, "choose", staticmethod(choose))
    with contextlib.ExitStack() as held:
        assert RunFolder.claim(None, "digits", False, held).path == Path("runs/digits-2")


def test_a_run_that_came_and_went_in_between_is_not_written_over(
    ended_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = RunFolder.choose

    def choose(*given: Any) -> RunFolder:
        folder = chosen(*given)
        if not folder.path.exists():
            shutil.copytree(ended_once, folder.path)
        return folder

    monkeypatch.setattr(RunFolder, "choose", staticmethod(choose))
    with contextlib.ExitStack() as held, pytest.raises(ConfigError, match="holds a run"):
        RunFolder.claim(str(tmp_path / "out"), "digits", False, held)


def test_a_lock_with_anything_in_it_names_nobody(tmp_path: Path) -> None:
    with locked(tmp_path):
        for content in (b"\xff\xfe", b"\x1b[31m", b"", b"x" * 10_000):
            (tmp_path / LOCK).write_bytes(content)
            with pytest.raises(TrainingError) as caught, locked(tmp_path):
                pytest.fail("held twice")
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 600
