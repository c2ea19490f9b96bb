"""Methods that train one route, on networks with separate routes: messages, choice of best, measurements."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from robustsabn import convert
from robustsabn.trainers import TrainConfig, compare, evaluate_run, train
from robustsabn.trainers.adversarial.config import RobustValidation
from robustsabn.trainers.adversarial.evaluation.trained_routes import trained_routes, untrained_note
from robustsabn.trainers.methods import METHODS, Pgd, Standard
from tests.helpers.methods import bench_for, images, network
from tests.helpers.runs import TINY


def routed(norm: str, routes: tuple[str, ...] = ("clean", "adv")) -> nn.Module:
    return convert(network(), norm=norm, routes=routes)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_trained_routes_are_those_whose_normalisation_a_step_moves(name: str) -> None:
    model = routed("auxbn")
    own: dict[str, Any] = {"gradalign": {"lam": 0.2}, "oat": {"lambdas": [0.5]}, "fast-advprop": {"every": 3}}
    method, bench = METHODS[name](**own.get(name, {})), bench_for(model, 6)
    x, y = images(6)
    with bench.at(0):
        method.losses(bench, x, y)["loss"].backward()
    gradient = dict(model.named_parameters())["1.route_bias"].grad
    assert gradient is not None
    moved = [name for name, row in zip(("clean", "adv"), gradient.chunk(2), strict=True) if row.any()]
    assert trained_routes(method, model) == tuple(moved)


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_where_routes_are_one_network_all_are_trained(norm: str) -> None:
    model = network() if norm == "none" else routed(norm)
    assert trained_routes(METHODS["pgd"](), model) == (() if norm == "none" else ("clean", "adv"))
    assert untrained_note(TrainConfig(norm="bn", method=METHODS["pgd"]()), model) is None


@pytest.mark.parametrize("norm", ["ccbn", "sabn", "auxbn", "saauxbn"])
def test_routes_with_parameters_or_statistics_of_their_own_are_apart(norm: str) -> None:
    assert trained_routes(METHODS["standard"](), routed(norm)) == ("clean",)
    assert trained_routes(METHODS["pgd"](), routed(norm)) == ("adv",)
    assert trained_routes(METHODS["pgd"](), routed(norm, ("only",))) == ("only",)
    assert trained_routes(METHODS["paired"](), routed(norm)) == ("clean", "adv")


@pytest.mark.parametrize(
    ("method", "trained", "left"), [("standard", "clean", "adv"), ("pgd", "adv", "clean")]
)
def test_a_run_is_told_chosen_and_measured_by_the_route_that_it_trains(
    method: str, trained: str, left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: dict[str, Any] = {**TINY, "images": 64, "method": method, "out": str(tmp_path / "run")}
    found = train(config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: method")]
    assert f"method {method} trains the route {trained} alone" in line
    assert f"so {left} stays untrained" in line
    assert "norm=none" in line
    evaluation = found.evaluation
    assert (list(evaluation.clean), list(evaluation.robust)) == ([trained], [trained])
    records = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    validations = [record for record in records if record["kind"] == "validation"]
    assert all(list(record["robust"]) == list(record["clean"]) == [trained] for record in validations)
    best = max(validations, key=lambda r: (r["robust"][trained][trained], r["clean"][trained], -r["step"]))
    assert found.best_step == best["step"]
    assert evaluate_run(found.folder, attack="pgd-1", n=40).clean == evaluation.clean
    assert evaluate_run(found.folder, attack="pgd-1", n=40, route=left).routes == (left,)
    (group,) = compare([found.folder]).groups
    assert group.runs[0].numbers["clean_accuracy"] == evaluation.clean[trained]


def test_the_best_checkpoint_of_standard_training_is_the_most_accurate_one() -> None:
    def chosen(**given: Any) -> bool:
        return TrainConfig(**given).by_robustness

    assert chosen()
    assert chosen(method=Pgd())
    assert not chosen(method=Standard())
    assert chosen(method=Standard(), validation=RobustValidation(select="robust"))
    assert not chosen(validation=RobustValidation(select="clean"))
