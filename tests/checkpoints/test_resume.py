"""kill -9 in the middle of an epoch, then --resume: the same parameters, bit for bit."""

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from robustsabn.config import load
from robustsabn.errors import CheckpointError
from robustsabn.trainers import TrainConfig, evaluate_run, train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.loop import Loop, RunResult, run
from tests.helpers.launch import launch
from tests.helpers.runs import TINY, die, metrics, same

STEPS = 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train({**TINY, "out": str(out)})
    return out


def test_a_killed_run_resumes_to_the_bit(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**TINY, "out": str(tmp_path / "cut")}
    code, output = launch([{"config": config, "die": 7}], tmp_path)
    assert code == -9, output
    shutil.copytree(tmp_path / "cut", tmp_path / "hurt")
    assert read(tmp_path / "cut" / "checkpoints", "last").state["step"] == 6
    train(config, resume=True)
    same(tmp_path / "cut", whole)

    file = tmp_path / "hurt" / "checkpoints" / "last" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    capsys.readouterr()
    train({**TINY, "out": str(tmp_path / "hurt")}, resume=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "truncated" in line]
    assert line.startswith(str(file))
    assert line.endswith("resuming from the checkpoint before it")
    same(tmp_path / "hurt", whole)
    assert (tmp_path / "hurt" / "checkpoints" / "damaged-last").is_dir()


def test_a_run_that_died_before_its_first_checkpoint_begins_again(tmp_path: Path, whole: Path) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}
    die(config, 1)
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(config, resume=True)
    same(tmp_path / "run", whole)


def hurt(folder: Path) -> Path:
    file = folder / "checkpoints" / "best" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    return file


def test_a_damaged_best_is_said_at_resume_and_replaced_by_a_later_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**TINY, "out": str(tmp_path / "run"), "epochs": 3}
    die(config, 7)
    assert read(tmp_path / "run" / "checkpoints", "best").state["step"] == 4
    file = hurt(tmp_path / "run")
    capsys.readouterr()
    result = train(config, resume=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "truncated" in line]
    assert line.startswith(str(file))
    assert line.endswith("; the best of the following steps replaces it")
    assert read(tmp_path / "run" / "checkpoints", "best").state["step"] == result.best_step
    scores = {e["step"]: e["robust"] for e in metrics(tmp_path / "run") if e["kind"] == "validation"}
    assert result.best_step == (8 if scores[8]["adv"]["adv"] > scores[12]["adv"]["adv"] else 12)
    assert (tmp_path / "run" / "checkpoints" / "damaged-best").is_dir()


def test_without_a_sound_best_the_table_is_of_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}

    close = Loop[Any, Any]._close

    def damaged(loop: Loop[Any, Any]) -> RunResult[Any]:
        hurt(loop.folder.path)
        return close(loop)

    with mock.patch.object(Loop, "_close", damaged):
        result = run(load(TrainConfig, config), AdversarialTraining)
    assert result.best_step == STEPS
    said = capsys.readouterr().out
    assert "; the table below is of the last checkpoint instead" in said
    assert "last checkpoint (step 8)" in " ".join(said.split())
    assert evaluate_run(tmp_path / "run", checkpoint="last", attack="pgd-1", n=40) == result.evaluation


def test_a_finished_run_resumes_to_its_table(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "again")
    result = train({**TINY, "out": str(tmp_path / "again")}, resume=True)
    assert result.steps == STEPS
    assert metrics(tmp_path / "again") == metrics(whole)


def test_nothing_sound_left_is_an_error(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    for name in ("last", "previous"):
        (tmp_path / "run" / "checkpoints" / name / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="start again with another out="):
        train({**TINY, "out": str(tmp_path / "run")}, resume=True)
