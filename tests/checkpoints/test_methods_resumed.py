"""Every method, stopped between two checkpoints and resumed: the same parameters and metrics, bit for bit."""

from pathlib import Path

import pytest

from robustsabn.config import load
from robustsabn.trainers import TrainConfig, train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.methods import METHODS
from robustsabn.trainers.runs.monitor import Monitor
from tests.helpers.runs import die, of_method, same


@pytest.mark.parametrize("method", METHODS)
def test_every_method_resumes_to_the_bit(tmp_path: Path, method: str) -> None:
    config = of_method(method)
    train({**config, "out": str(tmp_path / "whole")})

    cut = {**config, "out": str(tmp_path / "cut")}
    die(cut, 5)
    train(cut, resume=True)
    same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("size", [4, 16])
def test_what_free_carries_begins_anew_in_batches_of_another_size(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**of_method("free"), "out": str(tmp_path / "run")}
    die(config, 5)
    assert read(tmp_path / "run/checkpoints", "last").tensors["method"]["delta"].any()
    capsys.readouterr()

    class Looking(AdversarialTraining):
        def start(self, step: int, total: int, monitor: Monitor) -> None:
            assert self.bench.carried == {}
            super().start(step, total, monitor)

    changed = load(TrainConfig, {**config, "batch_size": size})
    run(changed, Looking, resume=True)
    said = capsys.readouterr().out.splitlines()
    assert f"resuming with other settings: batch_size 8 -> {size}" in said
    assert "the tensors that the method carries between batches start from the beginning" in said
    assert len(read(tmp_path / "run/checkpoints", "last").tensors["method"]["delta"]) == size
