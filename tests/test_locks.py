"""One run folder, one process."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustsabn.errors import CheckpointError, TrainingError
from robustsabn.locks import LOCK, locked
from robustsabn.trainers import train
from robustsabn.trainers.runs.folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.runs import TINY

HOLD = """
import sys
from pathlib import Path
from robustsabn.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
CONFIG: dict[str, Any] = {**TINY, "steps": 1}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `folder`."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_names_its_process_until_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        for resume in (False, True):
            with pytest.raises(TrainingError) as caught:
                train({**CONFIG, "out": str(folder)}, resume=resume)
            assert str(folder) in str(caught.value)
            assert f"in use by process {process.pid} on " in str(caught.value)
            assert "choose another out=" in str(caught.value)
            assert "\n" not in str(caught.value)
        process.kill()  # leaves its file
        process.wait()
        assert (folder / LOCK).exists()
        train({**CONFIG, "out": str(folder)})
    assert not (folder / LOCK).exists()
    train({**CONFIG, "out": str(folder), "steps": 2}, resume=True)


def test_two_runs_in_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "run"),
        pytest.raises(TrainingError, match=f"process {os.getpid()} on"),
        locked(tmp_path / "run"),
    ):
        pytest.fail("held twice")
    with locked(tmp_path / "run"):
        pass


def test_what_fails_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "some" / "where"
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        train({**CONFIG, "out": str(out)}, resume=True)
    assert list(tmp_path.iterdir()) == []


def test_a_default_folder_in_use_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(Path("runs/digits")), contextlib.ExitStack() as held:
        assert RunFolder.claim(None, "digits", False, held).path == Path("runs/digits-2")


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("robustsabn.locks.fcntl.flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith("process ")
