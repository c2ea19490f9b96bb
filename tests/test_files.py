"""Files are complete or absent; a full disk or a closed folder is one line, and leaves what was there."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from robustsabn.errors import ConversionError, RobustsabnError, WriteError
from robustsabn.files import make_folder, replacing, require_space, write_text
from robustsabn.trainers.checkpoints.files import Checkpoint, read, write

BIG = 200_000  # bytes


@contextmanager
def full_disk(limit: int = 4096) -> Iterator[None]:
    """No file can become larger than `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def by_python(path: Path) -> None:
    path.write_bytes(bytes(BIG))


def by_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(BIG)}, path)


def by_torch(path: Path) -> None:
    torch.save(torch.zeros(BIG), path)


@pytest.mark.parametrize("save", [by_python, by_safetensors, by_torch])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(
    tmp_path: Path, save: Callable[[Path], None]
) -> None:
    path = tmp_path / "result.pt"
    path.write_text("old")
    with full_disk(), pytest.raises(WriteError) as caught, replacing(path) as aside:
        save(aside)
    assert str(caught.value).startswith(f"{path}: ")
    assert "free some space" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.pt"]
    with replacing(path) as aside:
        save(aside)
    assert path.stat().st_size >= BIG


def test_a_disk_that_is_found_full_when_it_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError, match="No space left"):
        write_text(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("none/a.json", "file/a.json", "x" * 300):
        with pytest.raises(WriteError, match="; check that the folder"):
            write_text(tmp_path / place, "text")
    for place in ("file", "file/below"):
        with pytest.raises(WriteError, match="; check that the folder"):
            make_folder(tmp_path / place)


def test_errors_of_the_block_are_its_own(tmp_path: Path) -> None:
    for error in (
        ConversionError("os error 28"),
        FileNotFoundError(2, "no", "/elsewhere/x"),
        ValueError("a"),
    ):
        with pytest.raises(type(error)) as caught, replacing(tmp_path / "a"):
            raise error
        assert caught.value is error
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as aside:
        _stopped_halfway(aside)
    assert list(tmp_path.iterdir()) == []


def _stopped_halfway(aside: Path) -> None:
    aside.write_text("half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("mask", [0o002, 0o027, 0o077])
def test_files_have_the_mode_of_the_umask_whatever_wrote_them(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        for save in (by_python, by_safetensors, by_torch):
            with replacing(tmp_path / f"{save.__name__}.pt") as aside:
                save(aside)
        write(
            tmp_path / "checkpoints",
            Checkpoint({"model": {"a": torch.zeros(2)}}, {"step": 1}),
            ("last", "best"),
        )
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        whole = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == whole & ~mask, path


def test_missing_space_and_unusable_names_are_found_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "a" / "b", needed=1)
    assert list((tmp_path / "a" / "b").iterdir()) == []
    monkeypatch.setattr("robustsabn.files.shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    require_space(tmp_path, 2**20)
    with pytest.raises(WriteError, match=r"needs 3\.0 MiB, but its disk has only 1\.0 MiB left"):
        make_folder(tmp_path, needed=3 * 2**20)
    for make in (make_folder, lambda path: write_text(path, "")):
        with pytest.raises(WriteError, match=r"udcff.* is not UTF-8") as caught:
            make(tmp_path / "caf\udcff")
        assert str(caught.value).isprintable()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_what_cannot_be_told_in_utf8_does_not_cost_the_page(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", "caf\udcff")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "caf\\udcff"


def test_a_checkpoint_for_which_there_is_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    small = Checkpoint({"model": {"a": torch.zeros(4)}}, {"step": 1})
    large = Checkpoint({"model": {"a": torch.zeros(BIG)}}, {"step": 2})
    with full_disk(), pytest.raises(RobustsabnError, match="free some space"):
        write(tmp_path, large, ("last", "best"))
    assert list(tmp_path.iterdir()) == []
    write(tmp_path, small, ("last", "best"))
    with full_disk(), pytest.raises(WriteError, match="free some space"):
        write(tmp_path, large, ("last", "best"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "last"]
    assert read(tmp_path, "last").state["step"] == read(tmp_path, "best").state["step"] == 1
