"""Distances of the statistics of routes, and routes with these swapped."""

from __future__ import annotations

import copy
import json
import math
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn import convert
from robustsabn.analysis import route_statistics, route_swap
from robustsabn.errors import InputError
from tests.helpers.analysis import X, Y, loss64, small, unchanged


def distances(means: list[list[float]], variances: list[list[float]]) -> tuple[float, float]:
    """Both distances of a layer, one channel of one pair at a time."""
    shifts, ratios = [], []
    for i, j in combinations(range(len(means)), 2):
        for c in range(len(means[0])):
            s_i, s_j = (math.sqrt(variances[r][c] + 1e-5) for r in (i, j))
            shifts.append(abs(means[j][c] - means[i][c]) / s_i)
            ratios.append(abs(math.log(s_j / s_i)))
    return sum(shifts) / len(shifts), sum(ratios) / len(ratios)


@pytest.mark.parametrize("count", [2, 4])
def test_running_statistics_of_every_pair_of_routes(count: int) -> None:
    model = small("auxbn", routes=count)
    with unchanged(model):
        found = route_statistics(model)
    assert (found.source, found.names) == ("running", tuple(map(str, range(count))))
    for one in found.layers:
        layer = model[int(one.layer)]
        expected = distances(layer.running_mean.tolist(), layer.running_var.tolist())
        assert (one.mean, one.log_deviation) == pytest.approx(expected)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "sabn", "saauxbn"])
def test_statistics_of_batches_are_those_of_the_inputs_of_every_norm(norm: str) -> None:
    model = small(norm)
    batches = [X, X.flip(0) * 2, X + 0.3]
    routes = [(i % 2, x, Y, F.cross_entropy, f"batch {i}") for i, x in enumerate(batches)]
    with unchanged(model):
        found = route_statistics(model, routes=routes)
    means, variances = [], []
    for x in batches:  # the first norm, after the first convolution
        h = model[0](x)
        values = [[v.item() for n in range(6) for v in h[n, c].flatten()] for c in range(3)]
        means.append([sum(v) / len(v) for v in values])
        variances.append(
            [sum((a - m) ** 2 for a in v) / len(v) for v, m in zip(values, means[-1], strict=True)]
        )
    assert [one.layer for one in found.layers] == ["1", "4"]
    first = found.layers[0]
    assert (first.mean, first.log_deviation) == pytest.approx(distances(means, variances))


def test_a_norm_that_is_called_twice_has_the_statistics_of_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(x[:3]).sum() + self.norm(input=x[3:]).sum()
            return out

    x, other = torch.randn(2, 8, 2)
    found = route_statistics(Twice(), routes=[("a", x), ("b", other)])
    means = [v.double().mean(0).tolist() for v in (x, other)]
    variances = [v.double().var(0, correction=0).tolist() for v in (x, other)]
    assert (found.layers[0].mean, found.layers[0].log_deviation) == pytest.approx(distances(means, variances))


def test_equal_routes_and_one_route_have_no_distance(tmp_path: Path, capsys: Any) -> None:
    for model in (convert(nn.Sequential(nn.BatchNorm2d(3))), small("auxbn", routes=1)):
        for one in route_statistics(model).layers:
            assert (one.mean, one.log_deviation) == (0, 0)
    found = route_statistics(small())
    found.show()
    assert "running statistics of clean, adv" in capsys.readouterr().out
    found.to_json(tmp_path / "statistics.json")
    assert json.loads((tmp_path / "statistics.json").read_text())["layers"][1]["layer"] == "4"


def test_models_without_such_statistics_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="no running statistics by route; give a batch"):
        route_statistics(small("sabn"))
    with pytest.raises(InputError, match="no batch norm of Linear is used by all routes"):
        route_statistics(nn.Linear(2, 2), routes=[("a", torch.rand(3, 2))])


def swapped64(model: Any, x: Tensor, j: int, k: int) -> float:
    """The loss with the statistics of route j and the affine of route k, from the formulas."""
    twin = copy.deepcopy(model)
    for i in (1, 4):
        if twin[i].running_mean.ndim > 1:
            twin[i].running_mean[k], twin[i].running_var[k] = (
                model[i].running_mean[j],
                model[i].running_var[j],
            )
    return loss64(twin, k, False, x).item()


@pytest.mark.parametrize("norm", ["saauxbn", "auxbn", "ccbn"])
def test_swapped_routes(norm: str) -> None:
    model, images = small(norm), {"clean": X, "adv": X.flip(0) * 1.5}
    with unchanged(model):
        found = route_swap(model, routes=[(name, x, Y) for name, x in images.items()])
    own = norm != "ccbn"
    assert len(found.rows) == (8 if own else 4)
    for (i, x), j, k in product(images.items(), range(2 if own else 1), range(2)):
        names = tuple(images)
        one = found.of(i, names[j] if own else "shared", names[k])
        assert one.loss == pytest.approx(swapped64(model, x, j, k))
        assert one.accuracy * 6 == pytest.approx(round(one.accuracy * 6))
    assert found.table().row_count == len(found.rows)
    plain = route_swap(model, routes=[(name, x, None, lambda z, _: z.mean()) for name, x in images.items()])
    assert math.isnan(plain.rows[0].accuracy)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: route_swap(small("none"), routes=[("a", X, Y)]), "Sequential has 0 routers"),
        (lambda: route_swap(small(), routes=[(None, X, Y)]), "the selection None is of type NoneType; give"),
        (lambda: route_swap(small(), X, Y).of("clean", "clean", "avd"), r"no combination \('clean', 'clean'"),
    ],
)
def test_what_cannot_be_swapped_is_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
