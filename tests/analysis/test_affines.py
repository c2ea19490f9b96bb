"""Effective affines of the routes, one number at a time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import Condition, SaBN2d, bake, convert
from robustsabn.analysis import route_affines
from robustsabn.errors import InputError, RouteError
from robustsabn.layers import PRESETS
from tests.helpers.analysis import small, unchanged
from tests.helpers.layer_reference import affine64


def spread(rows: list[list[float]]) -> tuple[float, float]:
    """CAPV and the shared share of R rows of C numbers."""
    count, channels = len(rows), len(rows[0])
    means = [sum(row[c] for row in rows) / count for c in range(channels)]
    variances = [sum((row[c] - means[c]) ** 2 for row in rows) / count for c in range(channels)]
    shared, whole = sum(m * m for m in means), sum(v * v for row in rows for v in row) / count
    return sum(variances) / channels, shared / whole


@torch.no_grad()
@pytest.mark.parametrize("norm", PRESETS)
def test_capv_and_shared_share_are_those_of_the_folded_affines(norm: str) -> None:
    model = small(norm, routes=4)
    with unchanged(model):
        found = route_affines(model)
    assert [one.layer for one in found.layers] == ["1", "4"]
    for one in found.layers:
        scales, shifts = [], []
        for r in range(4):
            scale, shift = [1.0] * model[int(one.layer)].num_features, [0.0] * 3
            for gain, bias in affine64(model[int(one.layer)], r):
                if gain is not None and bias is not None:
                    shift = [float(g) * s + float(b) for g, b, s in zip(gain, bias, shift, strict=False)]
                    scale = [float(g) * s for g, s in zip(gain, scale, strict=True)]
            scales.append(scale)
            shifts.append(shift)
        assert one.routes == 4
        assert (one.capv_scale, one.share_scale) == pytest.approx(spread(scales), abs=1e-12)
        assert (one.capv_shift, one.share_shift) == pytest.approx(spread(shifts), abs=1e-12)


def test_folded_affines_are_those_of_the_baked_network() -> None:
    model: Any = small("saauxbn")
    plain: list[Any] = [bake(model, name) for name in ("clean", "adv")]
    rows = [network[1].weight.tolist() for network in plain]
    assert route_affines(model).layers[0].capv_scale == pytest.approx(spread(rows)[0])


@torch.no_grad()
def test_selections_vectors_and_samples_are_routes() -> None:
    model = small("sabn", routes=5)
    rows = [[float(v) for v in model[1].effective_affine(r)[0]] for r in (1, 3, 3)]
    forms: list[Any] = [[1, 3, 3], [torch.tensor([1, 3, 3])], ["1", torch.tensor([3, 3])]]
    for selections in forms:
        found = route_affines(model, selections).layers[0]
        assert found.routes == 3
        assert (found.capv_scale, found.share_scale) == pytest.approx(spread(rows))
    layer = SaBN2d(3, condition=2, init="paper").double()
    vectors = torch.randn(4, 2, dtype=torch.float64)
    both = nn.ModuleList([layer, model])
    assert [one.layer for one in route_affines(both).layers] == ["1.1", "1.4"]
    (found,) = route_affines(both, [Condition(vectors)]).layers
    assert layer.condition_gain is not None
    own, maps = layer._parameters["weight"], layer.condition_gain.weight
    assert own is not None
    rows = [[float(g) for g in own * (1 + maps @ y)] for y in vectors]
    assert (found.layer, found.routes) == ("0", 4)
    assert found.capv_scale == pytest.approx(spread(rows)[0])


def test_layers_without_shifts_and_one_route(tmp_path: Path) -> None:
    model = convert(nn.Sequential(nn.LayerNorm(4, bias=False)), norm="sabn", routes=1)
    found = route_affines(model)
    (one,) = found.layers
    assert (one.routes, one.capv_scale, one.share_scale) == (1, 0, 1)
    assert math.isnan(one.capv_shift)
    found.to_json(tmp_path / "affines.json")
    assert json.loads((tmp_path / "affines.json").read_text())["layers"][0]["capv_shift"] is None
    assert found.table().row_count == 1


def test_what_has_no_routes_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="has no layers with routes to compare"):
        route_affines(small("none"))
    with pytest.raises(RouteError, match="no route 7"):
        route_affines(small(), [7])
