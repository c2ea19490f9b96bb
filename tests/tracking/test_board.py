"""TensorBoard's files where they cannot be written."""

import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from robustsabn.errors import WriteError
from robustsabn.trainers.tracking.board import Board


def full(self: RecordWriter, record: bytes) -> None:
    raise OSError(28, "No space left on device")


def record(board: Board) -> None:
    for step in range(100):
        board.scalars({"loss": 1.0}, step)
        board.flush()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What threads that failed left to the hook of Python."""
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: failures.append(failure.exc_value))
    return failures


@pytest.mark.parametrize("first", [True, False])
def test_a_full_disk_is_one_error_and_no_traceback_of_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: list[Any], first: bool
) -> None:
    board = None if first else Board(tmp_path, 0)
    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(WriteError, match="No space left on device"):
        record(board or Board(tmp_path, 0))
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("tensorboard"):
            thread.join(10)
    assert heard == []


def test_other_threads_still_say_how_they_failed(tmp_path: Path, heard: list[Any]) -> None:
    board = Board(tmp_path, 0)
    thread = threading.Thread(target=lambda: (tmp_path / "absent").read_bytes())
    thread.start()
    thread.join()
    board.close()
    assert [type(error) for error in heard] == [FileNotFoundError]
