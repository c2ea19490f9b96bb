"""Resuming a run that has done its steps: other settings rewrite nothing; damage is repaired or reported."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.trainers import evaluate_run, load_run_config, train

CONFIG: dict[str, Any] = {
    "images": 32,
    "batch_size": 16,
    "epochs": 2,
    "attack": {"eps": 0.1, "steps": 1},
    "validation": {"images": 10, "steps": 1},
    "test": {"images": 10, "steps": 1},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train({**CONFIG, "out": str(folder)})
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("change", ["seed=5", "attack.eps=0.2", "method=trades", "optim.lr=0.5"])
def test_settings_that_nothing_was_trained_with_are_refused(run: Path, change: str) -> None:
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="has done its 4 steps"):
        train({**CONFIG, "out": str(run)}, [change], resume=True)
    assert (run / "config.yaml").read_bytes() == before
    assert evaluate_run(run, attack="pgd-1", n=4).n == 4


def test_fewer_steps_than_were_done_leave_the_run_as_it_is(run: Path) -> None:
    train({**CONFIG, "out": str(run)}, ["steps=2", "test.steps=2"], resume=True)
    config = load_run_config(run)
    assert (config.steps, config.test.steps) == (None, 2)
    assert evaluate_run(run, attack="pgd-1", n=4).n == 4


@pytest.mark.parametrize("content", [None, "", "junk: [", "seed: 9\n"])
def test_resuming_an_ended_run_repairs_its_config(run: Path, content: str | None) -> None:
    whole = replace(load_run_config(run), out=str(run))
    (run / "config.yaml").unlink() if content is None else (run / "config.yaml").write_text(content)
    train({**CONFIG, "out": str(run)}, resume=True)
    assert load_run_config(run) == whole


def test_a_damaged_best_is_said_and_not_taken_for_an_ended_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoints" / "best" / "model.safetensors").write_bytes(b"short")
    train({**CONFIG, "out": str(run)}, resume=True)
    said = capsys.readouterr().out
    assert "best" in said
    assert "has ended" not in said


def test_no_sound_checkpoint_names_the_way_out(run: Path) -> None:
    for name in ("last", "previous"):
        for file in (run / "checkpoints" / name).glob("*.safetensors"):
            file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"another (out|run with out)="):
        train({**CONFIG, "out": str(run)}, resume=True)
