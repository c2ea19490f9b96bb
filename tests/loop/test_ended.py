"""--resume of a run that has ended, and what stays while a run goes on."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustsabn.cli import main
from robustsabn.config import load
from robustsabn.errors import CheckpointError
from robustsabn.trainers import TrainConfig, compare, load_run_config, train
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation
from robustsabn.trainers.adversarial.runs.results import RESULTS
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.runs.metrics import read_records
from robustsabn.trainers.runs.monitor import Monitor
from tests.helpers.runs import TINY

CONFIG: dict[str, Any] = {
    **TINY,
    "steps": 3,
    "checkpoint_every": 1,
    "ema": 0.9,
    "test": {"images": 10, "steps": 1},
    "log_every": 10,
}


class Fails(AdversarialTraining):
    """A run in which nothing may be computed."""

    def start(self, step: int, total: int, monitor: Monitor) -> None:
        raise AssertionError("computed")


class Stops(AdversarialTraining):
    """A run that is killed before its closing evaluations."""

    def close(self, step: int, kind: str, heading: str) -> Evaluation:
        raise MemoryError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train({**CONFIG, "out": str(folder)})
    return folder


@pytest.fixture
def config(trained: Path, tmp_path: Path) -> dict[str, Any]:
    """The configuration of a run that has ended."""
    return {**CONFIG, "out": str(shutil.copytree(trained, tmp_path / "run"))}


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def resume(config: dict[str, Any], **more: Any) -> Any:
    return run(load(TrainConfig, {**config, **more}), Fails, resume=True)


def test_its_tables_are_shown_and_nothing_is_computed_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    config = {**CONFIG, "out": str(folder)}
    train(config)
    before, first = contents(folder), capsys.readouterr().out
    assert "step 3/3  loss " in first  # not a fraction of an epoch where steps were asked for
    result = resume(config)
    said = capsys.readouterr().out
    assert f"{folder} has ended: its 3 steps and closing evaluations are done, nothing is computed" in said
    rows = [line for line in first.splitlines() if "clean images" in line or "pgd-1 through" in line]
    assert len(rows) == 6  # those of averaged weights as well
    assert [line for line in said.splitlines() if line in rows] == rows
    assert contents(folder) == before
    assert result.evaluation == RESULTS.closing(list(read_records(folder / "metrics.jsonl")))
    assert result.averages.keys() == {"ema"}
    assert (result.steps, result.folder) == (3, folder)


def test_settings_that_change_nothing_still_compute_nothing(config: dict[str, Any]) -> None:
    for more in ({"log_every": 1}, {"steps": 2}, {"download": True}, {"checkpoint_every": 3}):
        assert resume(config, **more).steps == 3


def test_another_closing_evaluation_is_said_and_done(
    config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(config["out"])
    asked = {**config, "test": {"images": 6, "steps": 2}, "log_every": 7}
    with pytest.raises(MemoryError):
        run(load(TrainConfig, asked), Stops, resume=True)
    said = capsys.readouterr().out
    assert "from now on: test.images 10 -> 6" in said
    assert "from now on: log_every 10 -> 7" in said
    found = RESULTS.closing(list(read_records(folder / "metrics.jsonl")))
    assert found is not None
    assert found.n == 10  # until the new one is complete
    with pytest.raises(AssertionError, match="computed"):
        resume(asked)
    train(asked, resume=True)
    tests = [record for record in read_records(folder / "metrics.jsonl") if record["kind"] == "test"]
    assert [(record["n"], record["attack"]) for record in tests] == [(6, "pgd-2")]
    assert load_run_config(folder).test.images == 6
    resume(asked)


def test_a_run_that_goes_on_keeps_its_table_and_is_not_taken_for_ended(
    config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, longer = Path(config["out"]), {**config, "steps": 6}

    with pytest.raises(MemoryError):
        run(load(TrainConfig, longer), Stops, resume=True)
    assert "steps 3 -> 6" in capsys.readouterr().out
    records = list(read_records(folder / "metrics.jsonl"))
    assert [record["step"] for record in records if record["kind"] == "test"] == [3]
    assert RESULTS.closing(records) is None
    with pytest.raises(CheckpointError, match="has not ended"):
        compare([folder])
    assert main(["report", str(folder)]) == 0
    assert "After 3 steps, before training went on" in (folder / "report" / "index.html").read_text()
    train(longer, resume=True)
    records = list(read_records(folder / "metrics.jsonl"))
    assert [record["step"] for record in records if record["kind"] == "test"] == [6]
    assert len(compare([folder]).runs) == 1


def test_an_earlier_version_did_not_say_what_was_asked(config: dict[str, Any]) -> None:
    metrics = Path(config["out"], "metrics.jsonl")
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    metrics.write_text(
        "".join(json.dumps({k: v for k, v in r.items() if k != "asked"}) + "\n" for r in records)
    )
    resume(config)
    with pytest.raises(AssertionError, match="computed"):
        resume(config, test={"images": 6, "steps": 1})


def _without_tables(folder: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))


def _with_a_damaged_last(folder: Path) -> None:
    (folder / "checkpoints" / "last" / "state.json").write_text("{")


@pytest.mark.parametrize("harm", [_without_tables, _with_a_damaged_last])
def test_what_is_incomplete_is_done_again(config: dict[str, Any], harm: Callable[[Path], None]) -> None:
    harm(Path(config["out"]))
    with pytest.raises(AssertionError, match="computed"):
        resume(config)


@pytest.mark.parametrize("place", ["evaluation.json", "index.html"])
def test_an_old_result_stays_where_the_disk_is_full(
    config: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(config["out"])
    verb = (
        ["evaluate", str(folder), "--attack", "pgd-1", "--n", "8"]
        if "json" in place
        else ["report", str(folder)]
    )
    assert main(verb) == 0
    before = (folder / "report" / place).read_bytes()
    capsys.readouterr()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(verb) == 2
    captured = capsys.readouterr()
    assert "No space left" in captured.err
    assert captured.err.count("\n") == 1
    assert ("pgd-1 through" in captured.out) == ("json" in place)  # printed before it is written
    assert (folder / "report" / place).read_bytes() == before
    assert not list((folder / "report").glob(".*"))
