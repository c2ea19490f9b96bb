"""The folder of a run: chosen, never overwritten, gone on in."""

from pathlib import Path

import pytest
import torch

from robustsabn.config import load
from robustsabn.errors import ConfigError
from robustsabn.trainers import TrainConfig, load_run_config, train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.runs.folder import RunFolder
from tests.helpers.runs import TINY


def test_a_used_folder_is_not_overwritten(ended_once: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run; continue it with --resume"):
        train({**TINY, "out": str(ended_once)})


def test_a_folder_of_which_nothing_came_is_used_again(tmp_path: Path) -> None:
    class Failing(AdversarialTraining):
        def step(self, step: int) -> dict[str, torch.Tensor]:
            raise ConfigError("at the first step")

    config = {**TINY, "steps": 1, "out": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="at the first step"):
        run(load(TrainConfig, config), Failing)
    assert (tmp_path / "run" / "config.yaml").exists()
    assert train({**config, "norm": "bn"}).steps == 1
    assert load_run_config(tmp_path / "run").norm == "bn"


def test_another_network_cannot_go_on(ended: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"norm is 'bn', the run in .* has 'saauxbn'; resume it with its own"
    ):
        train({**TINY, "norm": "bn", "out": str(ended)}, resume=True)


def test_a_run_is_longer_when_asked(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train(ended / "config.yaml", [f"out={ended}", "steps=10"], resume=True)
    assert result.steps == 10
    assert "resuming with other settings: steps None -> 10" in capsys.readouterr().out


def test_default_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = []
    for _ in range(3):
        places.append(RunFolder.choose(None, "digits", False).path)
        (places[-1] / "checkpoints").mkdir(parents=True)
    assert [str(p) for p in places] == ["runs/digits", "runs/digits-2", "runs/digits-3"]
    assert RunFolder.choose(None, "digits", True).path == places[-1]
