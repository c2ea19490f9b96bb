"""Weights averaged over epochs: the mean, its statistics, and the same after a resume."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from robustsabn.config import load
from robustsabn.conversion.convert import convert
from robustsabn.data import load_test
from robustsabn.layers import RoutedBatchNorm
from robustsabn.routing import Blend, Split
from robustsabn.trainers import TrainConfig, evaluate_run, load_run_model, train
from robustsabn.trainers.adversarial.step.averages import averages
from robustsabn.trainers.adversarial.step.bn_statistics import Rehearsal, estimate_statistics
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.averages import Swa
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.methods import METHODS, Method
from tests.helpers.methods import bench_for, network
from tests.helpers.runs import TINY, die, same


@pytest.mark.parametrize(
    ("start", "every", "total", "taken"),
    [
        (0.5, 1, 12, [6, 9, 12]),
        (0.5, 2, 12, [6, 12]),
        (0.6, 1, 12, [9, 12]),
        (1.0, 1, 12, [12]),
        (0.75, 1, 2, [2]),
        (0.0, 1, 7, [3, 6, 7]),
    ],
)
def test_the_average_is_the_mean_of_the_epoch_ends_and_the_end(
    start: float, every: int, total: int, taken: list[int]
) -> None:
    model, trace = nn.Linear(3, 2), dict[int, Tensor]()
    config = load(TrainConfig, {"swa": {"start": start, "every": every}})
    swa = averages(config, model, per_epoch=3, total=total)["swa"]
    for step in range(total):
        model.weight.data = torch.randn(2, 3)
        trace[step + 1] = model.weight.detach().clone()
        swa.update(step)
        due = [step_ for step_ in taken if step_ <= step + 1]
        assert swa.count == len(due)
        assert swa.changed == bool(due)
        if due:
            mean = sum(trace[step_].double() for step_ in due) / len(due)
            torch.testing.assert_close(swa.values["weight"].double(), mean, rtol=1e-5, atol=1e-6)


def estimated(
    norm: str, method: str, monkeypatch: pytest.MonkeyPatch, **how: Any
) -> tuple[nn.Sequential, list[tuple[Tensor, Any]]]:
    """A network with estimated statistics, and what was sent through it."""
    seen: list[tuple[Tensor, Any]] = []
    forward = Rehearsal.forward

    def watched(self: Rehearsal, x: Tensor, selection: Any) -> Tensor:
        seen.append((x.detach().double(), selection))
        return forward(self, x, selection)

    monkeypatch.setattr(Rehearsal, "forward", watched)
    net = network()
    net[4] = nn.Linear(64, 10)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), *net)
    convert(model, norm=norm).train()
    batches = Batches(load_test("digits", 32), batch_size=8, seed=0, device=torch.device("cpu"))
    for buffer in (b for b in model.buffers() if b.is_floating_point()):
        buffer.fill_(5.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    estimate_statistics(
        cast(Method, METHODS[method](**how)), bench_for(model, 8, bn_mode="eval"), batches, 5, 3
    )
    torch.testing.assert_close(dict(model.named_parameters()), before, rtol=0, atol=0)
    return model, seen


Weighted = list[tuple[float, Tensor]]


def moments(convolution: nn.Module, batches: Weighted) -> tuple[Tensor, Tensor]:
    """Weighted mean over `batches` of the mean and unbiased variance of each channel, in float64."""
    total = sum(weight for weight, _ in batches)
    mean = var = torch.zeros((), dtype=torch.float64)
    for weight, x in batches:
        found = convolution.double()(x).detach().transpose(0, 1).flatten(1)
        mean, var = mean + weight / total * found.mean(1), var + weight / total * found.var(1)
    return mean, var


def sent_parts(x: Tensor, selection: Any) -> list[tuple[str, float, Tensor]]:
    """What each route was sent, with its weight."""
    if isinstance(selection, Blend):
        assert selection.weights is not None
        return [(name, float(w), x) for name, w in zip(("clean", "adv"), selection.weights, strict=True)]
    parts = selection.parts if isinstance(selection, Split) else ((selection, len(x)),)
    pieces = x.split_with_sizes([n for _, n in parts])
    return [(str(name), 1.0, piece) for (name, _), piece in zip(parts, pieces, strict=True)]


@pytest.mark.parametrize(
    ("norm", "method", "how"),
    [
        ("saauxbn", "paired", {}),
        ("saauxbn", "trades", {}),
        ("saauxbn", "paired-awp", {"gamma": 0.5}),
        ("auxbn", "pgd", {}),
        ("saauxbn", "oat", {"lambdas": (0.25,)}),
        ("saauxbn", "oat", {"lambdas": (0.0, 0.25, 1.0)}),
        ("sabn", "oat", {"lambdas": (0.25,)}),
        ("sabn", "paired", {}),
        ("sabn", "paired", {"forward": "separate"}),
    ],
)
def test_statistics_are_those_of_what_each_route_is_trained_on(
    norm: str, method: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = estimated(norm, method, monkeypatch, **how)
    pool, convolution, layer, *_ = model
    assert isinstance(layer, RoutedBatchNorm)
    assert layer.momentum == 0.1
    sent: dict[str, Weighted] = {"clean": [], "adv": [], "all": []}
    for x, selection in seen:
        for name, weight, part in sent_parts(x, selection):
            sent[name].append((weight, pool(part)))
        sent["all"].append((1.0, pool(x)))
    for row, name in enumerate(("clean", "adv")) if layer.statistics == "per_route" else [(..., "all")]:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        if not sent[name]:
            assert (name, method) == ("clean", "pgd")
            assert torch.equal(layer.running_mean[row], torch.full((4,), 5.0))
            continue
        mean, var = moments(convolution, sent[name])
        torch.testing.assert_close(layer.running_mean[row].double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var[row].double(), var, rtol=1e-4, atol=1e-5)
    if method == "paired" and norm == "saauxbn":
        assert len(sent["clean"]) == 3
        for (_, clean), (_, adv) in zip(sent["clean"], sent["adv"], strict=True):
            assert 0 < (clean - adv).abs().max() <= 0.06 + 1e-6


Traces = list[dict[str, Tensor]]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """Three epochs of four steps, averaged from the end of the first, validated after the other two."""
    validation = {**TINY["validation"], "every": 2}
    average = {"swa": {"start": 0.3, "batches": 3}, "ema": 0.5}
    return {**TINY, **average, "epochs": 3, "validation": validation}


@pytest.fixture(scope="module")
def traced(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Traces]:
    """A run and its parameters after every step."""
    out, trace = tmp_path_factory.mktemp("runs") / "run", Traces()

    class Traced(AdversarialTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            logged = super().step(step)
            trace.append({name: value.clone() for name, value in self.model.state_dict().items()})
            return logged

    run(load(TrainConfig, {**config, "out": str(out)}), Traced)
    return out, trace


def test_a_run_keeps_the_average_with_statistics_of_its_own(traced: tuple[Path, Traces]) -> None:
    folder, trace = traced
    step = read(folder / "checkpoints", "swa").state["step"]
    assert step in (8, 12)
    for name, value in load_run_model(folder, "swa").state_dict().items():
        if "tracked" in name:
            assert value.eq(3).all()
        elif "running" in name:
            assert not torch.equal(value, trace[step - 1][name]), name
        else:
            ends = [trace[end - 1][name].double() for end in range(4, step + 1, 4)]
            torch.testing.assert_close(value.double(), sum(ends) / len(ends), rtol=1e-5, atol=1e-6)


def test_it_changes_nothing_of_the_training(
    traced: tuple[Path, Traces], config: dict[str, Any], tmp_path: Path
) -> None:
    plain = train({**config, "swa": None, "out": str(tmp_path / "plain")})
    for name in ("best", "last", "ema"):
        found = [read(folder / "checkpoints", name).tensors["model"] for folder in (plain.folder, traced[0])]
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_run_resumed_before_the_average_was_evaluated_has_the_same(
    traced: tuple[Path, Traces], config: dict[str, Any], tmp_path: Path
) -> None:
    config = {**config, "out": str(tmp_path / "cut")}
    die(config, 5)
    last = read(tmp_path / "cut" / "checkpoints", "last").state
    assert last["averages"]["swa"] == {"count": 1, "evaluated": 0}
    result = train(config, resume=True)
    same(tmp_path / "cut", traced[0])
    again = evaluate_run(result.folder, checkpoint="swa", attack="pgd-1", n=40)
    assert result.averages["swa"] == again
    assert set(result.averages) == {"ema", "swa"}


def test_a_network_without_batch_norm_has_nothing_to_estimate() -> None:
    model = nn.Linear(3, 2)
    swa = Swa(model=model, start=0, stride=1, total=1)
    assert list(swa.values) == ["weight", "bias"]
    estimate_statistics(METHODS["standard"](), bench_for(model, 8), cast(Batches, None), 0, 3)
