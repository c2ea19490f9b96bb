"""Two processes are one: same parameters step for step, same statistics, exact resume."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import PartialState

from robustsabn.errors import ConfigError
from robustsabn.trainers import TrainConfig
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.processes.distributed import accelerator, launch_note, start
from tests.helpers.launch import accelerate_launch, launch, perform
from tests.helpers.runs import TINY, same

SYNCED: dict[str, Any] = {
    **TINY,
    "attack": {"eps": 0.1, "steps": 2},
    "optim": {"lr": 0.02},
    "sync_bn": True,
    "swa": {"start": 1.0, "batches": 2},
}
OWN: dict[str, Any] = {
    **SYNCED,
    "sync_bn": False,
    "ema": 0.9,
    "log_every": 5,  # the step of the signal, which is logged
    "swa": {"start": 0.5, "batches": 2},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes: `synced`, `own`, `stopped` by a signal and resumed, `cut` by a kill."""
    place = tmp_path_factory.mktemp("runs")
    jobs: list[dict[str, Any]] = [
        {"config": {**SYNCED, "out": str(place / "synced")}, "trace": str(place / "two.pt")},
        {"config": {**OWN, "out": str(place / "own")}, "trace": str(place / "own.pt")},
        {"config": {**OWN, "out": str(place / "stopped")}, "stop": 4},
        {"config": {**OWN, "out": str(place / "stopped")}, "resume": True},
        {"config": {**OWN, "out": str(place / "cut")}, "die": 7},
    ]
    code, output = accelerate_launch(jobs, place)
    assert code != 0, output
    assert "SIGKILL" in output or "-9" in output, output
    assert "stopped at step 5" in output, output
    return place


def test_two_processes_with_synchronised_statistics_are_one(runs: Path, tmp_path: Path) -> None:
    perform({**SYNCED, "out": str(tmp_path / "one")}, trace=str(tmp_path / "one.pt"))
    one, two = (torch.load(p, weights_only=True) for p in (tmp_path / "one.pt", runs / "two.pt"))
    assert len(one) == len(two) == 8
    for step, (a, b) in enumerate(zip(one, two, strict=True)):
        # equal up to the order of float32 sums, which signs in the attack may amplify
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5, msg=f"step {step}")
    averages = [read(place / "checkpoints", "swa").tensors for place in (tmp_path / "one", runs / "synced")]
    torch.testing.assert_close(*averages, rtol=1e-4, atol=1e-5)


def test_own_statistics_are_averaged_at_checkpoints(runs: Path) -> None:
    # the trace is of the main process before averaging; a checkpoint holds the mean with the other's
    trace = torch.load(runs / "own.pt", weights_only=True)
    stored = read(runs / "own" / "checkpoints", "last").tensors["model"]
    means = [name for name in stored if name.endswith("running_mean")]
    assert means
    assert all(not torch.equal(trace[-1][name], stored[name]) for name in means)
    for name in stored:
        if "running" not in name:
            torch.testing.assert_close(trace[-1][name], stored[name], rtol=0, atol=0)


def test_a_killed_run_of_two_processes_resumes_to_the_bit(runs: Path) -> None:
    # both processes go on from the same averaged statistics, or they would end elsewhere
    assert read(runs / "cut" / "checkpoints", "last").state["step"] == 6
    code, output = launch([{"config": {**OWN, "out": str(runs / "cut")}, "resume": True}], runs, 2)
    assert code == 0, output
    same(runs / "cut", runs / "own")
    entries = [json.loads(line) for line in (runs / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in entries if e["kind"] == "validation"] == [4, 8]


def test_a_stopped_run_of_two_processes_resumes_to_the_bit(runs: Path) -> None:
    # the checkpoint of step 5, where nothing is averaged otherwise, kept the statistics of each process
    same(runs / "stopped", runs / "own")


def test_a_launcher_that_started_one_process_of_several_is_said() -> None:
    acc = Accelerator(cpu=True)
    asked = {"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500"}
    assert "torchrun" in (launch_note(acc, asked) or "")
    assert launch_note(acc, {**asked, "WORLD_SIZE": "1"}) is None
    assert launch_note(acc, {"ACCELERATE_USE_CPU": "True"}) is None


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_launch_that_splits_the_parameters_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(distributed_type=DistributedType(kind))
    monkeypatch.setattr("robustsabn.trainers.processes.distributed.Accelerator", lambda **options: found)
    with pytest.raises(ConfigError, match=f"set up for {kind}; attacks need whole parameters"):
        accelerator(cpu=True)


def test_the_device_of_a_run_is_not_that_of_the_run_before(monkeypatch: pytest.MonkeyPatch) -> None:
    PartialState()
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    assert start(TrainConfig(device="cpu")).device == torch.device("cpu")
