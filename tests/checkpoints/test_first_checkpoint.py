"""Killed, or out of space, before and inside the first checkpoint: --resume begins again, to the bit."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustsabn import files
from robustsabn.cli import main
from robustsabn.errors import CheckpointError, ConfigError, WriteError
from robustsabn.locks import LOCK
from robustsabn.trainers import sweep, train
from robustsabn.trainers.checkpoints import files as store
from robustsabn.trainers.runs.folder import RunFolder
from tests.helpers.runs import TINY, same


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    return {**TINY, "images": 16, "steps": 2, "checkpoint_every": None, "ema": 0.5}


@contextmanager
def watched(before: Callable[[], None]) -> Iterator[None]:
    """`before` is called before each flush and each rename."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "replace"), (store, "flush"), (files, "flush")):
            real = getattr(owner, name)

            def guarded(*given: Any, _real: Callable[..., Any] = real) -> Any:
                before()
                return _real(*given)

            patch.setattr(owner, name, guarded)
        yield


@pytest.fixture(scope="module")
def killed(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A whole run, and what a kill leaves at each moment until its first checkpoint is complete."""
    place = tmp_path_factory.mktemp("killed")
    whole, found = place / "whole", list[Path]()

    def keep() -> None:
        if not (whole / "checkpoints" / "last").exists():
            found.append(place / f"moment-{len(found)}")
            shutil.copytree(whole, found[-1])

    with watched(keep):
        train({**tiny, "out": str(whole)})
    return whole, found


def test_every_moment_until_the_first_checkpoint_is_complete(
    tiny: dict[str, Any], killed: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, moments = killed
    assert len(moments) >= 20
    assert [path.name for path in moments[0].iterdir() if not path.name.startswith(files.ASIDE)] == [LOCK]
    for last in ("ema", "best"):
        assert any((moment / "checkpoints" / last).exists() for moment in moments)
    for moment in dict.fromkeys(moments[:2] + moments[2::3] + moments[-1:]):
        out = tmp_path / moment.name
        shutil.copytree(moment, out)
        train({**tiny, "out": str(out)}, resume=True)
        assert (
            f"{out} ended before its first checkpoint and starts from the beginning"
            in capsys.readouterr().out
        )
        same(out, whole)
        assert not list((out / "checkpoints").glob(".*"))


def test_nothing_half_written_is_evaluated(killed: tuple[Path, list[Path]]) -> None:
    for moment in killed[1]:
        folder = RunFolder(moment)
        assert folder.begun
        assert folder.stored == any((moment / "checkpoints" / name).exists() for name in ("ema", "best"))


def test_what_a_run_went_on_from_is_not_begun_again(
    tiny: dict[str, Any], killed: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(killed[0], out)
    shutil.rmtree(out / "checkpoints" / "last")
    for _ in range(2):  # with best, and without
        before = (out / "metrics.jsonl").read_bytes()
        with pytest.raises(CheckpointError, match="reached step 2; restore last from a copy"):
            train({**tiny, "out": str(out)}, resume=True)
        assert (out / "metrics.jsonl").read_bytes() == before
        shutil.rmtree(out / "checkpoints", ignore_errors=True)


def test_a_folder_that_no_run_was_begun_in_is_not_resumed(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
            train({**tiny, "out": str(tmp_path / name)}, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_without_resume_what_came_to_nothing_is_used_again(
    tiny: dict[str, Any], killed: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    whole, moments = killed
    shutil.copytree(moments[0], tmp_path / "a")
    train({**tiny, "out": str(tmp_path / "a")})
    same(tmp_path / "a", whole)
    shutil.copytree(moments[-1], tmp_path / "b")
    with pytest.raises(ConfigError, match="--resume"):
        train({**tiny, "out": str(tmp_path / "b")})


@pytest.mark.parametrize("at", [0, 3, 6, 10])
def test_a_disk_that_is_full_at_first_and_then_not(
    tiny: dict[str, Any], killed: tuple[Path, list[Path]], tmp_path: Path, at: int
) -> None:
    out, calls = tmp_path / "run", [0]

    def full() -> None:
        calls[0] += 1
        if calls[0] > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with watched(full), pytest.raises(WriteError, match="No space left on device; free some space"):
        train({**tiny, "out": str(out)})
    assert not list(out.rglob(f"{files.ASIDE}*"))
    if at:
        train({**tiny, "out": str(out)}, resume=True)
        same(out, killed[0])
    else:
        assert not out.exists()


def test_a_sweep_that_was_killed_at_once_begins_again(
    tiny: dict[str, Any], killed: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    out = tmp_path / "all"
    out.mkdir()
    with pytest.raises(CheckpointError, match="holds no run of seed 0"):
        sweep({**tiny, "out": str(out)}, seeds=[0], resume=True)
    (out / LOCK).write_text("process 1 on elsewhere")
    sweep({**tiny, "out": str(out)}, seeds=[0], resume=True)
    shutil.copytree(killed[1][4], out / "seed-1")
    sweep({**tiny, "out": str(out)}, seeds=[0, 1], resume=True)
    same(out / "seed-0", killed[0])


def test_the_newest_run_is_resumed_though_it_was_killed_at_once(
    tiny: dict[str, Any],
    killed: tuple[Path, list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(killed[0], "runs/tiny")
    shutil.copytree(killed[1][3], "runs/tiny-2")
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny))
    assert main(["train", "tiny.yaml", "--resume"]) == 0
    assert (
        "runs/tiny-2 ended before its first checkpoint and starts from the beginning"
        in capsys.readouterr().out
    )
