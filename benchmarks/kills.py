"""Kills training and AutoAttack, or fills their disk, at random moments; resumes, and compares with
uninterrupted runs.

python benchmarks/kills.py [--runs 5] [--seed 0] [--out benchmarks/results/kills.md]

A moment is a step, a record of the journal, a flush to disk or a rename. At this moment a process sends
itself SIGKILL, or fills its disk: a small tmpfs if one can be mounted, otherwise no file can grow beyond 1 kB
from then on. Of several training processes one is killed and then the others, as launchers do. All are forked
from a process that has imported everything. `inside` means before the first checkpoint, or the identity of a
journal, is complete. The exit code is 1 if a result differs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timing import write_table

from robustsabn.attacks.journal.journal import Journal
from robustsabn.cli import main as command
from robustsabn.files import ASIDE
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read

NET = """
from torch import nn

def make(num_classes, in_channels):
    layers = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(144, num_classes))
"""
CONFIG = """
images: 48
batch_size: 16
epochs: 2
checkpoint_every: 2
ema: 0.5
augment: {crop: 1}
attack: {eps: 0.1, steps: 1}
optim: {name: adamw, lr: 0.01}
validation: {images: 10, steps: 1}
test: {images: 10, steps: 1}
device: cpu
"""
ATTACK = "--data digits --norm Linf --eps 0.1 --attacks apgd-ce,square --n 16 --batch-size 4 --device cpu"
LATE = (  # what commands import when they need it, imported once
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "robustsabn.attacks.adapters",
    "robustsabn.attacks.reporting",
    "robustsabn.cli.support.evaluation",
    "robustsabn.cli.support.subject",
    "robustsabn.trainers.comparing",
    "scipy.stats",
    "sklearn.datasets",
    "tensorboard.summary.writer.event_file_writer",
    "torch._dynamo",
    "torch.utils.tensorboard",
)
COMPLETE = ("last", "identity.json")  # by their renaming the first checkpoint and a journal are complete
MIB = 8  # of the small disk


class Moments:
    """Counts the moments of this process, and calls `act` at number `at`."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.at, self.act, self.count, self.inside = at, act, 0, 0

    def watch(self) -> None:
        for owner, name in (
            (os, "fsync"),
            (os, "rename"),
            (os, "replace"),
            (Journal, "append"),
            (AdversarialTraining, "step"),
        ):
            setattr(owner, name, self._before(getattr(owner, name)))

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*given: Any, **more: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.act()
            result = real(*given, **more)
            if not self.inside and len(given) == 2 and os.path.basename(str(given[1])) in COMPLETE:
                self.inside = self.count
            return result

        return guarded


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def perform(
    words: list[str], log: Path, at: int = 0, act: Callable[[], None] = kill, processes: int = 1
) -> list[int]:
    """Exit codes of forked processes that run the command `words`; the first one is interrupted.

    Each leaves its number of moments in `log`.RANK.json.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    numbers = {
        _fork(words, log, rank, processes, port, at if rank == 0 else 0, act): rank
        for rank in range(processes)
    }
    codes = [0] * processes
    while numbers:
        number, status = os.wait()
        codes[numbers.pop(number)] = os.waitstatus_to_exitcode(status)
        if status:
            for other in numbers:
                os.kill(other, signal.SIGKILL)
    return codes


def _fork(
    words: list[str], log: Path, rank: int, processes: int, port: int, at: int, act: Callable[[], None]
) -> int:
    if number := os.fork():
        return number
    if processes > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ.update({name: str(value) for name, value in places.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with log.open("w" if rank == 0 else "a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    moments = Moments(at, act)
    moments.watch()
    code = 1
    try:
        code = command(words)
    finally:
        log.with_suffix(f".{rank}.json").write_text(json.dumps([moments.count, moments.inside]))
        sys.stdout.flush()
        os._exit(code)


class Small:
    """A disk that can be filled and emptied again."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MIB}m", "none", str(place)]
        self.mounted = (
            shutil.which("mount") is not None
            and not subprocess.run(mount, capture_output=True, check=False).returncode
        )

    def fill(self) -> None:
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
            return
        with (self.place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        (self.place / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.place)], check=True)


@contextlib.contextmanager
def small(place: Path) -> Iterator[Small]:
    disk = Small(place)
    try:
        yield disk
    finally:
        disk.close()


def same_run(a: Path, b: Path) -> bool:
    """Whether two runs have equal checkpoints and records, bit for bit, without the speed."""

    def records(folder: Path) -> list[Any]:
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]

    for name in ("best", "last", "previous", "ema"):
        first, second = (read(folder / "checkpoints", name) for folder in (a, b))
        if first.tensors.keys() != second.tensors.keys() or first.state["step"] != second.state["step"]:
            return False
        for part, tensors in first.tensors.items():
            if not equal(tensors, second.tensors[part]):
                return False
    return records(a) == records(b)


def same_report(a: Path, b: Path) -> bool:
    """Whether two evaluations have the same verdicts, numbers and adversarial images."""

    def told(folder: Path) -> Any:
        content = json.loads((folder / "report.json").read_text())
        for attack in content["attacks"]:
            del attack["seconds"]
        return {key: value for key, value in content.items() if key not in ("seconds", "about")}

    tables = {(folder / "per_sample.csv").read_bytes() for folder in (a, b)}
    images = [load_file(folder / "adversarial.safetensors") for folder in (a, b)]
    return len(tables) == 1 and equal(*images) and told(a) == told(b)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def campaign(
    begin: list[str], place: Path, draw: random.Random, runs: int, processes: int, full: bool, inside: bool
) -> list[object]:
    """One row: `runs` runs, interrupted and resumed once each, or three times if killed at any moment."""
    out, compared = ("--out {}", same_report) if begin[0] == "autoattack" else ("out={}", same_run)
    place.mkdir()
    log, whole = place / "log", place.parent / f"whole-{begin[0]}-{processes}"
    told = whole.with_suffix(".log")
    if not whole.exists():
        codes = perform([*begin, *out.format(whole).split()], told, processes=processes)
        assert not any(codes), told.read_text()
    count, first = json.loads(told.with_suffix(".0.json").read_text())
    interrupted = said = alike = 0
    for index in range(runs):
        with small(place / f"disk-{index}") if full else contextlib.nullcontext() as disk:
            torn = (disk.place if disk else place / f"{index}") / "run"
            words = [*begin, *out.format(torn).split()]
            for again in range(1 if full or inside else 3):
                # where a disk is full: the last moments are renames, which need no space
                last = first if inside else count * 2 // 3 if full else count // 3
                at = draw.randint(1, last)
                more = ["--resume"] if again else []
                codes = perform([*words, *more], log, at, disk.fill if disk else kill, processes)
                if disk:
                    disk.empty()
                interrupted += codes[0] != 0
                said += (
                    codes[0] == 2
                    and log.read_text().count("robustsabn: ") == 1
                    and "Traceback" not in log.read_text()
                )
                if codes[0] not in (-9, 2, 0):
                    print(log.read_text())
            # where all was undone there is nothing to resume
            codes = perform([*words, *(["--resume"] if torn.exists() else [])], log, processes=processes)
            if any(codes):
                print(log.read_text())
            left = list(torn.rglob(f"{ASIDE}*"))
            equal_to_it = not any(codes) and compared(torn, whole)
            if left or not equal_to_it:
                print(f"run {index}: exit codes {codes}, equal {equal_to_it}, left behind {left}", flush=True)
            alike += equal_to_it and not left
    what = f"{begin[0]}, {processes} process{'es' if processes > 1 else ''}"
    how = ("disk full" if full else "killed") + (", inside" if inside else "")
    return [what, how, runs, interrupted, f"{said} of {interrupted}" if full else "", f"{alike} of {runs}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for module in LATE:
        importlib.import_module(module)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "net.py").write_text(NET)
        (place / "config.yaml").write_text(CONFIG)
        model = f"{place / 'net.py'}:make"
        train = ["train", str(place / "config.yaml"), f"model={model}"]
        perform([*train, f"out={place / 'model'}"], place / "log")
        attack = ["autoattack", "--model", str(place / "model"), *ATTACK.split()]
        cases = [(train, 1), (attack, 1), (train, 2), (attack, 2)]
        for begin, processes in cases:
            for full, inside in ((False, False), (False, True), (True, False), (True, True)):
                if full and processes > 1:
                    continue
                draw = random.Random(f"{args.seed} {len(rows)}")
                rows.append(campaign(begin, place / f"{len(rows)}", draw, args.runs, processes, full, inside))
                print(*rows[-1], sep=" | ", flush=True)
    head = (
        "command",
        "interrupted by",
        "runs",
        "interrupted",
        "ended in one line",
        "equal to the uninterrupted one",
    )
    write_table("Runs that are killed or run out of space, and resumed", head, rows, args.out)
    return 0 if all(str(row[-1]) == f"{row[2]} of {row[2]}" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
