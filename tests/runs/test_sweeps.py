"""One configuration with several seeds: which runs a sweep begins, continues and leaves as they are."""

from pathlib import Path
from typing import Any

import pytest

from robustsabn.cli import main
from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.trainers import Interrupted, TrainConfig, load_run_config, sweep
from robustsabn.trainers.adversarial.runs.results import RESULTS
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records
from tests.helpers.recorded_run import ended_run

TINY = [
    "images=32",
    "batch_size=32",
    "steps=1",
    "attack.steps=1",
    "validation.images=10",
    "validation.steps=1",
    "test.images=10",
    "test.steps=1",
    "test.autoattack=none",
    "device=cpu",
]
CONFIG: dict[str, Any] = {"batch_size": 50, "device": "cpu"}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, bool]]:
    """Runs that take no time: the folder and `resume` of each, in the order in which they came."""
    runs: list[tuple[str, bool]] = []

    def run(config: TrainConfig, task: object, resume: bool = False) -> None:
        assert config.out is not None
        runs.append((config.out, resume))
        if not resume:
            ended_run(
                Path(config.out), *(f"{key}={value}" for key, value in CONFIG.items()), f"seed={config.seed}"
            )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("robustsabn.trainers.sweeps.run", run)
    return runs


def test_seeds_train_one_after_the_other_and_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "sweep"
    assert main(["train", "digits", *TINY, "seeds=5,2", f"out={out}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("seed ")] == [
        f"seed 5 begins: {out}/seed-5",
        f"seed 2 begins: {out}/seed-2",
    ]
    (row,) = [line.split("│") for line in lines if line.startswith("│ sweep")]
    assert row[2].strip() == "2"
    assert "±" in row[3]
    for seed in (5, 2):
        assert load_run_config(out / f"seed-{seed}").seed == seed
        assert RESULTS.closing(list(read_records(out / f"seed-{seed}" / "metrics.jsonl"))) is not None
    # nothing is left to do, and what is there stays
    before = {file: file.stat().st_mtime_ns for file in out.glob("*/*")}
    assert main(["train", "digits", *TINY, "seeds=5,2", f"out={out}", "--resume"]) == 0
    assert {file: file.stat().st_mtime_ns for file in out.glob("*/*")} == before
    assert "seed 5 has ended" in capsys.readouterr().out


def test_resume_skips_what_ended_continues_what_began_and_begins_the_rest(
    begun: list[tuple[str, bool]], tmp_path: Path
) -> None:
    sweep(CONFIG, ["out=all"], [0, 1])
    ended_run(Path("all/seed-2"), "device=cpu", "seed=2", ended=False)
    begun.clear()
    found = sweep(CONFIG, ["out=all"], [3, 2, 1, 0], resume=True)
    assert begun == [("all/seed-3", False), ("all/seed-2", True)]
    assert [run.seed for run in found.runs] == [3, 1, 0]
    assert found.skipped[0].startswith("all/seed-2 has not ended")  # the run of this test does nothing


def test_an_ended_run_that_is_asked_for_more_continues(begun: list[tuple[str, bool]]) -> None:
    sweep(CONFIG, ["out=all"], [0])
    begun.clear()
    sweep(CONFIG, ["out=all", "epochs=90"], [0], resume=True)
    assert begun == [("all/seed-0", True)]


def test_default_folders_of_runs_and_sweeps_keep_apart(begun: list[tuple[str, bool]]) -> None:
    ended_run(Path("runs/run"))
    sweep(CONFIG, seeds=[0])
    sweep(CONFIG, seeds=[0])
    assert [out for out, _ in begun] == ["runs/run-2/seed-0", "runs/run-3/seed-0"]
    assert RunFolder.choose(None, "run", resume=False).path == Path("runs/run-4")
    assert RunFolder.choose(None, "run", resume=True).path == Path("runs/run")
    begun.clear()
    sweep(CONFIG, seeds=[0, 1], resume=True)
    assert begun == [("runs/run-3/seed-1", False)]


def test_folders_are_not_mixed(begun: list[tuple[str, bool]]) -> None:
    ended_run(Path("single"))
    sweep(CONFIG, ["out=all"], [0, 1])
    begun.clear()
    with pytest.raises(ConfigError, match="single holds a single run; choose another folder"):
        sweep(CONFIG, ["out=single"], [0])
    with pytest.raises(ConfigError, match="all holds a sweep; give its seeds="):
        RunFolder.choose("all", "run", resume=True)
    with pytest.raises(ConfigError, match="seed-1 holds a run; continue it with --resume"):
        sweep(CONFIG, ["out=all"], [2, 1])
    with pytest.raises(CheckpointError, match="all holds no run of seed 7, 8 to resume; start without"):
        sweep(CONFIG, ["out=all"], [7, 8], resume=True)
    with pytest.raises(CheckpointError, match="runs/run holds no run of seed 0"):
        sweep(CONFIG, seeds=[0], resume=True)
    assert begun == []


def test_print_config_of_a_sweep_is_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "seeds=0,1", "epochs=7", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# seeds 0, 1 in turn")
    file = tmp_path / "printed.yaml"
    file.write_text(printed)
    assert main(["train", str(file), "--print-config"]) == 0
    assert capsys.readouterr().out == printed.partition("\n")[2]


def test_an_interrupted_run_of_a_sweep_is_not_the_whole_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted

    monkeypatch.setattr("robustsabn.trainers.sweeps.run", stopped)
    with pytest.raises(Interrupted):
        sweep(CONFIG, [f"out={tmp_path / 'sweep'}"], seeds=(0, 1))
    assert capsys.readouterr().out.splitlines()[-1].startswith("this was seed 0, run 1 of 2 of the sweep")
