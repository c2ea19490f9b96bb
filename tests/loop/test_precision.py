"""TF32: on for training, off for tests, and left as it was."""

from pathlib import Path

import pytest
import torch

from robustsabn.config import load
from robustsabn.trainers import TrainConfig, evaluate_run
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.loop.precision import tensor_float32
from tests.helpers.runs import TINY


def switches() -> tuple[object, object]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_chosen_for_training_off_for_tests_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    before, seen = switches(), list[tuple[object, object]]()

    class Watched(AdversarialTraining):
        def step(self, step: int) -> dict[str, torch.Tensor]:
            seen.append(switches())
            return super().step(step)

    real = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append(switches())
        return real(self, x)

    result = run(load(TrainConfig, {**TINY, "steps": 1, "tf32": tf32, "out": str(tmp_path / "run")}), Watched)
    assert seen == [(tf32, tf32)]
    assert switches() == before
    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    seen.clear()
    evaluate_run(result.folder, n=5, attack="pgd-1")
    assert set(seen) == {(False, False)}
    assert switches() == before


def test_precisions_set_through_newer_switches_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mixed:
        @property
        def allow_tf32(self) -> bool:
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends.cuda, "matmul", Mixed())
    before = torch.backends.cudnn.allow_tf32
    with tensor_float32(not before):
        assert torch.backends.cudnn.allow_tf32 == before
