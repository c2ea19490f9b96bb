"""Gradients of every route against differences of a loss written from the formulas."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustsabn import Condition, Router, SaBN2d, convert
from robustsabn.analysis import Gradients, Gram, RouteBatch, route_gradients
from robustsabn.errors import InputError, RouteError
from robustsabn.layers import PRESETS
from tests.helpers.analysis import X, Y, by_differences, loss64, small, unchanged


def reference(model: Any, training: bool) -> dict[tuple[str, str], list[Tensor]]:
    """Gradients of every (group, layer) and route, by differences."""
    found: dict[tuple[str, str], list[Tensor]] = {}
    for r in range(2):

        def loss(route: int = r) -> Tensor:
            return loss64(model, route, training)

        for name in ("0.weight", "3.weight", "7.weight"):
            at = dict(model.named_parameters())[name].data
            found.setdefault(("weight", name), []).append(by_differences(loss, at))
        for i in (1, 4):
            model.moved = {i: torch.zeros(2, model[i].num_features, dtype=torch.float64)}
            moved = by_differences(loss, model.moved[i])
            del model.moved
            found.setdefault(("scale", str(i)), []).append(moved[0])
            found.setdefault(("shift", str(i)), []).append(moved[1])
            own = model[i]._parameters
            for group, entry in (("shared_scale", "weight"), ("shared_shift", "bias")):
                if own[entry] is not None:
                    found.setdefault((group, str(i)), []).append(by_differences(loss, own[entry].data))
            for group, entry in (("route_scale", "route_weight"), ("route_shift", "route_bias")):
                if own[entry] is not None:
                    rows = by_differences(loss, own[entry].data).view(2, -1)
                    found.setdefault((group, str(i)), []).append(rows[r])
    return found


def assert_gram(found: Gram, vectors: list[Tensor]) -> None:
    """Every number of the Gram matrix, from the vectors, one sum at a time."""
    rows = [v.flatten().tolist() for v in vectors]
    norms = [math.sqrt(math.fsum(a * a for a in row)) for row in rows]
    mean = sum(norms) / len(norms)
    deviation = math.sqrt(sum((n - mean) ** 2 for n in norms) / len(norms))
    cosines = [
        math.fsum(a * b for a, b in zip(rows[i], rows[j], strict=True)) / (norms[i] * norms[j])
        for i, j in combinations(range(len(rows)), 2)
    ]
    total = math.sqrt(math.fsum(sum(column) ** 2 for column in zip(*rows, strict=True)))
    cosine = sum(cosines) / len(cosines)
    close: Any = {"rel": 1e-6, "abs": 1e-7}
    assert found.norms == pytest.approx(norms, **close)
    assert found.balance == pytest.approx(deviation / mean, **close)
    assert found.cosine == pytest.approx(cosine, **close)
    assert found.diversity == pytest.approx(1 - cosine, **close)
    assert found.gradient_diversity == pytest.approx(sum(n * n for n in norms) / total**2, rel=1e-5)
    if len(norms) == 2:
        assert found.log_ratio == pytest.approx(math.log2(norms[1] / norms[0]), **close)


def assert_equal(one: Gram, other: Gram) -> None:
    torch.testing.assert_close(torch.tensor(one.products), torch.tensor(other.products))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", PRESETS)
def test_gradients_are_those_by_differences(norm: str, training: bool) -> None:
    model = small(norm)
    with unchanged(model):
        found = route_gradients(model, X, Y, bn_mode="frozen" if training else "eval")
    expected = reference(model, training)
    assert found.names == ("clean", "adv")
    assert found.losses == pytest.approx([loss64(model, r, training).item() for r in range(2)])
    assert {(group, one.layer) for group, grams in found.groups.items() for one in grams} == set(expected)
    for group, grams in found.groups.items():
        for one in grams:
            assert_gram(one, expected[group, one.layer])
        together = [torch.cat([expected[group, one.layer][r].flatten() for one in grams]) for r in range(2)]
        assert_gram(found.total(group), together)


def test_the_gradients_of_a_sandwich_obey_its_chain_rule() -> None:
    """dL/dg_i = g_s a_i + b_s c_i, dL/db_i = c_i and dL/db_s = g_i c_i, for each route by itself."""
    model = small("sabn")
    alone = [route_gradients(model, routes=[(name, X, Y)]) for name in ("clean", "adv")]
    for r, found in enumerate(alone):
        a, c = (reference(model, True)[group, "1"][r] for group in ("scale", "shift"))
        layer = model[1]
        g_s, b_s = (layer._parameters[name].data for name in ("weight", "bias"))
        g_i = layer.route_weight[r].detach()
        expected = {
            "route_scale": g_s * a + b_s * c,
            "route_shift": c,
            "shared_scale": g_i * a,
            "shared_shift": g_i * c,
        }
        for group, vector in expected.items():
            assert found.groups[group][0].norms[0] == pytest.approx(vector.norm().item(), rel=1e-6)
            assert math.isnan(found.groups[group][0].cosine)  # one route


def test_a_plain_model_is_measured_on_its_batches() -> None:
    model = small("none")
    with unchanged(model):
        found = route_gradients(model, routes=[("clean", X, Y), ("adv", X.flip(0), Y)])
    assert set(found.groups) == {"weight", "scale", "shift"}
    routed = convert(small("none"), norm="bn")
    same = route_gradients(routed, routes=[("clean", X, Y), ("adv", X.flip(0), Y)])
    for group in found.groups:
        assert_equal(found.total(group), same.total(group))


class Paths(nn.Module):
    """A choice of two layers, then one that takes vectors: two routers and a part that a path leaves out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells = nn.ModuleList(SaBN2d(2, routes=r, dtype=torch.float64, init="paper") for r in (2, 3))
        self.vectors = SaBN2d(2, condition=2, router=Router(condition=2), dtype=torch.float64, init="paper")

    def forward(self, x: Tensor, cell: int) -> Tensor:
        out: Tensor = self.vectors(self.cells[cell](x))
        return out.tanh().mean((2, 3))


def test_paths_and_vectors_are_routes_like_any_other() -> None:
    model = Paths()
    y = Condition(torch.randn(6, 2, dtype=torch.float64))
    selections: list[Any] = [{"cells.0": 1, "vectors": y}, {"cells.1": torch.full((6,), 2), "vectors": y}]
    batches = [
        RouteBatch(selection, (X, cell), Y, lambda out, y: F.cross_entropy(out, y % 2), f"path {cell}")
        for cell, selection in enumerate(selections)
    ]
    with unchanged(model):
        found = route_gradients(model, routes=batches)
    assert found.names == ("path 0", "path 1")
    first, second, last = found.groups["scale"]
    assert (first.norms[1], second.norms[0]) == (0, 0)  # the path without the layer
    assert min(first.norms[0], second.norms[1], *last.norms) > 0
    assert math.isnan(first.cosine)
    assert first.balance == 1


def test_layers_called_twice_and_activation_checkpointing_add_up() -> None:
    class Twice(nn.Module):
        def __init__(self, kept: bool) -> None:
            super().__init__()
            self.inner, self.kept = small("sabn"), kept

        def forward(self, x: Tensor) -> Tensor:
            once: Any = checkpoint(self.inner, x, use_reentrant=False) if self.kept else self.inner(x)
            out: Tensor = once + self.inner(x.flip(0))
            return out

    plain, kept = (route_gradients(Twice(kept), X, Y) for kept in (False, True))
    for group in plain.groups:
        assert_equal(plain.total(group), kept.total(group))
    single = route_gradients(small("sabn"), routes=[("clean", X, Y), ("adv", X, Y)])
    assert plain.total("scale").norms != pytest.approx(single.total("scale").norms)


def test_frozen_layers_have_no_gradients_of_weights() -> None:
    model = small()
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    found = route_gradients(model, X, Y)
    assert [one.layer for one in found.groups["weight"]] == ["3.weight", "7.weight"]
    assert [one.layer for one in found.groups["scale"]] == ["1", "4"]  # composed, so it is always there
    assert [one.layer for one in found.groups["route_scale"]] == ["4"]


measured: Any = route_gradients  # wrong types too


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: measured(m), "nothing to measure on; give x and y, or routes"),
        (lambda m: measured(m, X, Y, routes=[("adv", X, Y)]), "give only one"),
        (lambda m: measured(m, routes=[]), "routes is empty"),
        (lambda m: measured(m, routes=["adv"]), r"a route of type str: 'adv'; give \(selection, x"),
        (lambda m: measured(m, routes=[("adv", X, Y)] * 2), "routes named adv, adv; give each its"),
        (lambda m: measured(small("none"), X, Y), "Sequential has no routes; give routes="),
        (lambda m: measured(nn.DataParallel(m), X, Y), r"wrapped \(DataParallel\); give the model"),
        (lambda m: measured("m", X, Y), "the model is"),
        (lambda m: measured(m, X, Y, bn_mode="train"), "bn_mode is 'train'; allowed are frozen, eval"),
        (lambda m: measured(m, routes=[("adv", X, Y, lambda z, y: z)]), "'adv' is of shape"),
        (lambda m: measured(m, routes=[("adv", X, Y, lambda z, y: 1.0)]), "'adv' is float; give a"),
        (lambda m: measured(m, X, Y).total("scales"), "no group 'scales'; this model has weight"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(small())
    with pytest.raises(RouteError, match="no route 'avd'"):
        route_gradients(small(), routes=[("avd", X, Y)])


def test_errors_leave_the_model_as_it_was() -> None:
    model = small()

    def fails(z: Tensor, y: Tensor) -> Tensor:
        raise KeyError

    with unchanged(model), pytest.raises(KeyError):
        route_gradients(model, routes=[("adv", X, Y, fails)])


def test_tables_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = route_gradients(small(), X, Y)
    found.show()
    assert "effective scales" in capsys.readouterr().out
    assert found.table("weight").row_count == 4  # three layers, and all
    many = Gradients(tuple("abcde"), (0.0,) * 5, {"weight": (Gram("w", ((1.0,) * 5,) * 5),)})
    assert [column.header.plain for column in many.table().columns][1:3] == ["norm, least", "norm, most"]  # type: ignore[union-attr]  # Text
    found.to_json(tmp_path / "gradients.json")
    read = json.loads((tmp_path / "gradients.json").read_text())
    assert read["total"]["weight"]["balance"] == found.total().balance
    alone = route_gradients(small(), routes=[("adv", X, Y)])
    alone.to_json(tmp_path / "gradients.json")
    assert json.loads((tmp_path / "gradients.json").read_text())["total"]["weight"]["cosine"] is None
