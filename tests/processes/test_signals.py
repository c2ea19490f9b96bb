"""Signals: in one process and several, in the closing evaluations, between the runs of a sweep."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from robustsabn.config import load
from robustsabn.trainers import Interrupted, TrainConfig, sweep, train
from robustsabn.trainers.adversarial.evaluation.validation import Validator
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.processes import stopping
from robustsabn.trainers.processes.signals import Signals, noted
from tests.helpers import ROOT
from tests.helpers.runs import TINY, metrics, same

SHORT = {**TINY, "steps": 4, "ema": 0.9, "validation": {"images": 10, "steps": 1}}


@contextmanager
def interrupted(close: int) -> Iterator[None]:
    """SIGTERM comes in the middle of the closing evaluation of that number, from 1, and ends the block."""
    evaluate, left = Validator._evaluate, [close]

    def closed(self: Validator, *given: Any) -> Any:
        if given[0] is not self.validation and given[0] is not self.seen:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "_evaluate", closed)
        with pytest.raises(Interrupted):
            yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train({**SHORT, "out": str(out)})
    return out


@pytest.mark.parametrize("close", [1, 2])
def test_closing_evaluations_end_at_once_and_are_done_again(
    tmp_path: Path, whole: Path, close: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**SHORT, "out": str(tmp_path / "run")}
    handler = signal.getsignal(signal.SIGTERM)
    with interrupted(close):
        train(config)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert "stopped during the closing evaluations; all steps are saved" in capsys.readouterr().out
    # all of them or none: a run with a part of its tables would count as ended
    assert metrics(tmp_path / "run")[-1]["kind"] == "ema"
    train(config, resume=True)
    assert [entry["kind"] for entry in metrics(whole)[-2:]] == ["test", "test_ema"]
    assert metrics(tmp_path / "run") == metrics(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_the_run_resumes_to_the_same_end(
    tmp_path: Path, ended_once: Path, number: signal.Signals
) -> None:
    config, handler = {**TINY, "out": str(tmp_path / "cut")}, signal.getsignal(number)

    class Signalled(AdversarialTraining):
        def step(self, step: int) -> dict[str, torch.Tensor]:
            if step == 5:
                os.kill(os.getpid(), number)
            return super().step(step)

    with pytest.raises(Interrupted):
        run(load(TrainConfig, config), Signalled)
    assert signal.getsignal(number) == handler
    assert read(tmp_path / "cut" / "checkpoints", "last").state["step"] == 6
    train(config, resume=True)
    same(tmp_path / "cut", ended_once)


def test_a_sweep_ends_with_the_run_that_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**SHORT, "ema": None, "out": str(tmp_path / "all")}
    with interrupted(1):
        sweep(config, seeds=[0, 1])
    assert not (tmp_path / "all" / "seed-1").exists()
    capsys.readouterr()
    found = sweep(config, seeds=[0, 1], resume=True)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert [line.split(":")[0] for line in said] == ["seed 0 continues", "seed 1 begins"]
    assert [run.seed for run in found.runs] == [0, 1]


def test_a_sweep_begins_no_run_after_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def run(config: Any, task: object, resume: bool = False) -> None:
        begun.append(config.seed)
        with noted():  # a run notes signals as well; this one comes when nothing of it is left to do
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("robustsabn.trainers.sweeps.run", run)
    with pytest.raises(Interrupted):
        sweep({**SHORT, "out": str(tmp_path / "all")}, seeds=[0, 1])
    assert begun == [0]


def _signal_twice(signals: Signals) -> None:
    with signals.at_once():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_does_not_interrupt_what_the_first_one_ends() -> None:
    with noted() as signals:
        with pytest.raises(Interrupted):
            _signal_twice(signals)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_processes_stop_after_the_same_step_whatever_their_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, meeting = (0.05, 0.25), threading.Barrier(2, timeout=10)
    own, rows = threading.local(), [torch.empty(0)] * 2
    exchanges: list[list[int]] = [[], []]
    stopped = [0, 0]

    def gathered(_: object, row: torch.Tensor) -> torch.Tensor:
        exchanges[own.rank].append(own.step)
        rows[own.rank] = row
        meeting.wait()
        whole = torch.cat(rows)
        meeting.wait()
        return whole

    def process(rank: int) -> None:
        own.rank, own.step = rank, 0
        signals = Signals()
        accelerator: Any = SimpleNamespace(num_processes=2, device="cpu")
        stop = stopping.Stop(accelerator, signals)
        while not stopped[rank] and own.step < 100:
            own.step += 1
            if own.step == 31 and rank == 0:
                signals.note(signal.SIGTERM, None)
            if stop.requested(own.step):
                stopped[rank] = own.step

    clock = SimpleNamespace(perf_counter=lambda: getattr(own, "step", 0) * seconds[own.rank])
    monkeypatch.setattr(stopping, "time", clock)
    monkeypatch.setattr(stopping, "gathered", gathered)
    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exchanges[0] == exchanges[1]
    assert stopped[0] == stopped[1]
    assert 31 <= stopped[0] <= 35  # a second of the slower process later, at most
    assert {b - a for a, b in zip(exchanges[0][4:], exchanges[0][5:], strict=False)} == {4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGTERM, []), (signal.SIGUSR1, ["--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1"])],
)
def test_torchrun_hands_signals_on_and_its_processes_save(
    tmp_path: Path, number: signal.Signals, options: list[str]
) -> None:
    config = {
        **TINY,
        "epochs": 10_000,
        "log_every": 100_000,
        "validation": {"images": 40, "every": 100_000},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [*options, "-m", "robustsabn", "train", str(tmp_path / "run.yaml"), f"out={out}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with (tmp_path / "output").open("w") as output:
        launcher = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    until = time.monotonic() + 120
    while not (out / "checkpoints" / "last").is_dir() and time.monotonic() < until:
        time.sleep(0.2)
    launcher.send_signal(number)
    launcher.wait(timeout=25)  # the launcher would kill after 30
    said = (tmp_path / "output").read_text()
    assert launcher.returncode not in (0, -number), said  # the launcher's own word for it
    assert said.count("robustsabn: interrupted") == 2, said
    step = read(out / "checkpoints", "last").state["step"]
    assert f"stopped at step {step}, state saved in {out}" in said
    assert f"next: robustsabn train {out / 'config.yaml'} --resume" in said
    assert not (out / ".lock").exists()
