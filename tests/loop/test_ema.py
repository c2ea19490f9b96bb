"""Averaged weights: the maths, what is kept of them, and that a resumed run has the same."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from robustsabn.cli import main
from robustsabn.config import load
from robustsabn.errors import ConfigError
from robustsabn.trainers import TrainConfig, evaluate_run, load_run_model, train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.averages import Ema, EmaStatistics
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.loop.standing import cumulative
from tests.helpers.runs import TINY, die, same

DECAY = 0.6


def averaged(trace: list[Tensor], decay: float) -> Tensor:
    value = trace[0].double()
    for step, weight in enumerate(trace[1:]):
        d = min(decay, (1 + step) / (10 + step))
        value = d * value + (1 - d) * weight.double()
    return value


def test_the_average_is_that_of_the_formula() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    ema, trace = Ema(model, 0.3), [model.weight.detach().clone()]
    for step in range(20):
        model.weight.data = torch.randn(2, 3)
        trace.append(model.weight.detach().clone())
        ema.update(step)
    assert list(ema.values) == ["weight"]
    expected = averaged(trace, 0.3)
    torch.testing.assert_close(ema.values["weight"].double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected, averaged(trace, 0.9))  # past the warm-up


def test_weights_are_exchanged_and_come_back_whatever_happens() -> None:
    model = nn.Linear(3, 2)
    tied = nn.ModuleList([model, model])
    ema, before = Ema(tied, 0.9), model.weight.detach().clone()
    ema.values["0.weight"].mul_(2)
    parameter = model.weight

    def fail() -> None:
        assert torch.equal(model.weight, 2 * before)
        raise MemoryError

    with pytest.raises(MemoryError), ema.in_place():
        fail()
    assert model.weight is parameter
    assert torch.equal(model.weight, before)
    assert torch.equal(ema.values["0.weight"], 2 * before)


def test_running_statistics_may_be_averaged_too_or_be_the_average_s_own() -> None:
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(norm)
    emas = {name: Ema(model, 0.3, name) for name in get_args(EmaStatistics)}
    assert norm.running_mean is not None
    trace = [norm.running_mean.clone()]
    for step in range(12):
        model(torch.randn(8, 3) + step)
        trace.append(norm.running_mean.clone())
        for ema in emas.values():
            ema.update(step)
    assert list(emas["live"].values) == ["0.weight", "0.bias"]
    averages = emas["averaged"].values
    assert [name for name in averages if "running" in name or "num" in name] == [
        "0.running_mean",
        "0.running_var",
    ]
    torch.testing.assert_close(
        averages["0.running_mean"].double(), averaged(trace, 0.3), rtol=1e-5, atol=1e-6
    )

    standing, live = emas["standing"], {name: b.clone() for name, b in model.named_buffers()}
    with standing.in_place(), cumulative(model):
        assert torch.equal(norm.running_mean, live["0.running_mean"])  # to begin with
        for shift in (1.0, 3.0):
            model(torch.randn(8, 3) + shift)
    assert all(torch.equal(buffer, live[name]) for name, buffer in model.named_buffers())
    assert int(standing.values["0.num_batches_tracked"]) == 2
    assert (standing.values["0.running_mean"] - live["0.running_mean"]).abs().min() > 1
    standing.evaluated = standing.count
    with standing.in_place():
        assert norm.num_batches_tracked is not None
        assert int(norm.num_batches_tracked) == 2  # what was estimated stays while weights do


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Tensor]]]:
    """A run with averaged weights, and its parameters before and after every step."""
    out, trace = tmp_path_factory.mktemp("runs") / "run", list[dict[str, Tensor]]()

    class Traced(AdversarialTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            state = self.model.state_dict
            trace.append({name: value.clone() for name, value in state().items()}) if not trace else None
            logged = super().step(step)
            trace.append({name: value.clone() for name, value in state().items()})
            return logged

    run(load(TrainConfig, {**TINY, "ema": DECAY, "out": str(out)}), Traced)
    return out, trace


def test_a_run_keeps_the_best_average_with_the_statistics_of_its_model(
    traced: tuple[Path, list[dict[str, Tensor]]],
) -> None:
    folder, trace = traced
    kept = read(folder / "checkpoints", "ema")
    step = kept.state["step"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["robust"]["adv"]["adv"] for line in lines if line["kind"] == "ema"}
    assert step == max(scores, key=lambda s: (scores[s], -s))
    for name, value in load_run_model(folder, "ema").state_dict().items():
        if "running" in name or "tracked" in name:
            assert torch.equal(value, trace[step][name]), name
        else:
            expected = averaged([state[name] for state in trace[: step + 1]], DECAY)
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    last = read(folder / "checkpoints", "last")
    torch.testing.assert_close(last.tensors["model"], trace[-1], rtol=0, atol=0)
    assert set(kept.tensors) == {"model"}


def test_averaging_changes_nothing_of_the_training(
    traced: tuple[Path, list[dict[str, Tensor]]], tmp_path: Path
) -> None:
    plain = train({**TINY, "out": str(tmp_path / "plain")})
    assert plain.averages == {}
    for name in ("best", "last"):
        found = [read(folder / "checkpoints", name).tensors["model"] for folder in (plain.folder, traced[0])]
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_resumed_run_has_the_same_average(
    traced: tuple[Path, list[dict[str, Tensor]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**TINY, "ema": DECAY, "out": str(tmp_path / "cut")}
    die(config, 5)
    result = train(config, resume=True)
    same(tmp_path / "cut", traced[0])
    assert "averaged weights (step" in " ".join(capsys.readouterr().out.split())
    assert result.averages == {"ema": evaluate_run(result.folder, checkpoint="ema", attack="pgd-1", n=40)}
    assert result.averages["ema"] != result.evaluation
    assert main(["evaluate", str(result.folder), "--checkpoint", "ema", "--n", "5", "--attack", "pgd-1"]) == 0


def test_averaging_may_begin_at_a_resume(tmp_path: Path) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}
    die(config, 7)
    train({**config, "ema": 0.0, "steps": 7}, resume=True)
    last = read(tmp_path / "run" / "checkpoints", "last").tensors
    for name, value in last["ema"].items():
        torch.testing.assert_close(value, last["model"][name].view_as(value), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("decay", [1, 1.5, -0.1])
def test_decays_outside_the_range_are_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"ema must be in \[0, 1\), such as 0.995; got"):
        load(TrainConfig, {"ema": decay})
