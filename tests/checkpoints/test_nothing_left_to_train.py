"""Resuming a run that has done its steps: other settings rewrite nothing; damage is repaired or reported."""

from dataclasses import replace
from pathlib import Path

import pytest

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.trainers import evaluate_run, load_run_config, train
from tests.helpers.runs import TINY


@pytest.mark.parametrize("change", ["seed=5", "attack.eps=0.2", "method=trades", "optim.lr=0.5"])
def test_settings_that_nothing_was_trained_with_are_refused(ended: Path, change: str) -> None:
    before = (ended / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="has done its 8 steps"):
        train({**TINY, "out": str(ended)}, [change], resume=True)
    assert (ended / "config.yaml").read_bytes() == before
    assert evaluate_run(ended, attack="pgd-1", n=4).n == 4


def test_fewer_steps_than_were_done_leave_the_run_as_it_is(ended: Path) -> None:
    train({**TINY, "out": str(ended)}, ["steps=2", "test.steps=2"], resume=True)
    config = load_run_config(ended)
    assert (config.steps, config.test.steps) == (None, 2)
    assert evaluate_run(ended, attack="pgd-1", n=4).n == 4


@pytest.mark.parametrize("content", [None, "", "junk: [", "seed: 9\n"])
def test_resuming_an_ended_run_repairs_its_config(ended: Path, content: str | None) -> None:
    whole = replace(load_run_config(ended), out=str(ended))
    (ended / "config.yaml").unlink() if content is None else (ended / "config.yaml").write_text(content)
    train({**TINY, "out": str(ended)}, resume=True)
    assert load_run_config(ended) == whole


def test_a_damaged_best_is_said_and_not_taken_for_an_ended_run(
    ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ended / "checkpoints" / "best" / "model.safetensors").write_bytes(b"short")
    train({**TINY, "out": str(ended)}, resume=True)
    said = capsys.readouterr().out
    assert "best" in said
    assert "has ended" not in said


def test_no_sound_checkpoint_names_the_way_out(ended: Path) -> None:
    for name in ("last", "previous"):
        for file in (ended / "checkpoints" / name).glob("*.safetensors"):
            file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"another (out|run with out)="):
        train({**TINY, "out": str(ended)}, resume=True)
