"""Wrong inputs, each in a forked process of its own with a time limit: what it printed, raised or returned.

    python -m tests.helpers.hostile.server FOLDER RESULTS [EVERY]

runs every EVERY-th case and writes what went wrong as JSON, a text for each case.
"""

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from robustsabn.__main__ import main
from robustsabn.errors import RobustsabnError
from tests.helpers.hostile.case import Case

LIMIT = 30
"""Seconds after which a case hangs."""
LONGEST = 400
"""Characters of a message."""
CHILDREN = 2


def run_all(cases: list[Case], folder: Path) -> dict[str, str]:
    """What went wrong, by the name of the case; nothing of a case that ended as it should."""
    found: dict[str, str] = {}
    running: dict[int, tuple[Case, Path]] = {}
    waiting: Iterator[tuple[int, Case]] = iter(enumerate(cases))
    while True:
        while len(running) < CHILDREN and (following := next(waiting, None)) is not None:
            place = folder / f"case-{following[0]}"
            place.mkdir()
            running[_fork(following[1], place)] = following[1], place
        if not running:
            return found
        pid, status = os.wait()
        case, place = running.pop(pid)
        problem = _verifier(case, place, status)
        if problem:
            found[case.name] = problem


def _fork(case: Case, place: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.chdir(place)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644), number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.update(case.environment)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIMIT)
    code = 1
    try:
        code = _outcome(case)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(case: Case) -> int:
    """0 where it succeeded, 2 where it was refused."""
    if isinstance(case.do, list):
        try:
            return main(case.do)
        except SystemExit as stopped:
            return stopped.code if isinstance(stopped.code, int) else 1
    try:
        result = case.do()
    except RobustsabnError as error:
        print(f"robustsabn: {error}", file=sys.stderr)
        return 2
    print(f"returned {type(result).__name__}")
    return 0


def _verifier(case: Case, place: Path, status: int) -> str:
    printed = [(place / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err")]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"hangs: {printed[1][-300:]}" if number == signal.SIGALRM else f"killed by signal {number}"
    code, lines = os.WEXITSTATUS(status), printed[1].splitlines()
    if any("Traceback" in text for text in printed):
        return f"traceback, exit code {code}: {' | '.join(lines[-4:])}"
    if code == 0:
        return "" if case.right else f"accepted: {printed[0][-200:]}"
    if code != 2:
        return f"exit code {code}: {printed[1][-300:]}"
    if len(lines) != 1 or not lines[0].startswith("robustsabn: "):
        return f"{len(lines)} lines: {printed[1][-300:]}"
    return f"{len(lines[0])} characters: {lines[0]}" if len(lines[0]) > LONGEST else ""


def serve(folder: Path, results: Path, every: int) -> None:
    """Run the cases and write the results."""
    from tests.helpers.hostile import calls, commands, files

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    prepared = files.prepare(folder)
    cases = [*files.cases(prepared), *commands.cases(prepared), *calls.cases(prepared)]
    chosen = cases[::every]
    found = run_all(chosen, folder)
    seconds = time.monotonic() - begun
    report = {"cases": len(chosen), "seconds": round(seconds, 1), "found": found}
    results.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), int((sys.argv[3:] or ["1"])[0]))
