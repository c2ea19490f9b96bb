"""Functions in processes of their own, forked from one that has imported what they need, to save time."""

import functools
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

from tests.helpers import ROOT

__all__ = ["THREADS", "apart"]

IMPORTED = [
    "robustsabn.trainers.adversarial.task",
    "tests.helpers.attacks.evaluate_worker",
    "tests.helpers.launch",
    "tests.helpers.pitfalls_worker",
]


THREADS = os.environ.get("OMP_NUM_THREADS", "1")
"""The threads of a started process are as many as here: sums on another number round differently."""


@functools.cache
def server() -> ForkServerContext:
    """The process that the others are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": THREADS, "PYTHONPATH": str(ROOT)}):
        forkserver.ensure_running()
    return context


def environments(processes: int) -> list[dict[str, str]]:
    """What a launcher tells each of several processes; nothing to a single one."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    size = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**size, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def apart(
    function: Callable[..., object], *arguments: Any, place: Path, processes: int = 1, limit: float = 300
) -> tuple[int, str]:
    """`function(*arguments)` in several processes, set up as by torchrun: the first exit code but 0, and the
    output.

    As torchrun does, the others are ended when one fails. `function` is one of a module, and `place` a folder
    to write to."""
    output = place / "output"
    output.unlink(missing_ok=True)
    running = []
    for environment in environments(processes):
        changes = {**environment, "TMPDIR": str(place)}
        running.append(server().Process(target=_call, args=(function, arguments, str(output), changes)))
        running[-1].start()
    waiting, code = {process.sentinel: process for process in running}, 0
    while waiting:
        ended = connection.wait(list(waiting), timeout=limit)
        for sentinel in ended:
            process = waiting.pop(int(sentinel))  # type: ignore[arg-type]
            process.join()
            code = code or process.exitcode or 0
        if code or not ended:
            for process in waiting.values():
                process.kill()
        assert ended, f"no process has ended in {limit} s: {output.read_text()}"
    return code, output.read_text()


def _call(
    function: Callable[..., object], arguments: tuple[Any, ...], output: str, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    with open(output, "a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    function(*arguments)
    sys.stdout.flush()
