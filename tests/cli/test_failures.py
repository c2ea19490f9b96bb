"""How the command line ends when the machine, the terminal or the reader of its output gives up."""

import errno
import io
import os
import subprocess
import sys

import pytest
import torch

from robustsabn.__main__ import main
from robustsabn.cli import recipes
from robustsabn.cli.support.failures import explain, prepare_streams, say
from robustsabn.errors import DataError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_full_memory_names_the_batch_size(error: Exception) -> None:
    assert "choose a smaller batch_size" in (explain(error) or "")


def test_a_full_disk_is_said_with_and_without_a_name() -> None:
    assert "No space left on device" in (explain(OSError(errno.ENOSPC, "No space left on device")) or "")
    assert "x.npz: " in (explain(OSError(errno.ENOSPC, "No space left on device", "x.npz")) or "")


def test_mistakes_of_ours_keep_their_traceback() -> None:
    assert explain(ValueError("shapes")) is None
    assert explain(RuntimeError("shapes")) is None


@pytest.mark.parametrize("error", [MemoryError("32 GiB"), OSError(errno.EIO, "x"), DataError("a\nb")])
def test_each_ends_with_2_and_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> None:
        raise error

    monkeypatch.setattr(recipes, "run", fail)
    assert main(["recipes"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("robustsabn: ")
    assert printed.err.count("\n") == 1


def test_long_words_and_long_lines_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    say("x" * 10_000 + " is not there")
    say("word " * 10_000)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("x is not there")
    assert max(len(first), len(second)) < 400


def test_terminals_of_few_characters_get_near_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_streams()
    print("99.2 ± 0.3 … ünï \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == b"99.2 +- 0.3 ... ?n? \\udcff\n"


TABLE = """
import sys
from rich.console import Console
from robustsabn import cli

cli.info.run = lambda args: Console().print("a table")
sys.exit(cli.main(["info"]))
"""


@pytest.mark.parametrize("words", [["-m", "robustsabn", "recipes"], ["-c", TABLE]])
def test_a_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    words = [sys.executable, *words]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    command = f'"{sys.executable}" -m robustsabn recipes {closed}'
    assert subprocess.run(command, shell=True, check=False, capture_output=True).returncode == 0


def test_a_terminal_of_no_width_still_shows_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    prepare_streams()
    assert "COLUMNS" not in os.environ
    monkeypatch.setenv("COLUMNS", "100")
    prepare_streams()
    assert os.environ["COLUMNS"] == "100"
