"""The official repository's layouts, against small modules that hold their parameters in those layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import convert, load_official
from robustsabn.errors import ModelError
from robustsabn.layers import RoutedBatchNorm2d, SaAuxBN2d
from tests.helpers.randomise import randomise, through

ROUTES, CHANNELS = 3, 4


class Layer(nn.Module):
    """`y = g_r (g x + b) + b_r` step by step, its parameters named as in the official code."""

    def __init__(self, layout: str, tracked: bool = True) -> None:
        super().__init__()
        self.layout = layout

        def norms(affine: bool) -> nn.ModuleList:
            return nn.ModuleList(
                nn.BatchNorm2d(CHANNELS, affine=affine, track_running_stats=tracked) for _ in range(ROUTES)
            )

        if layout == "auxbn":
            self.bn_list = norms(True)
            return
        if layout == "saauxbn":
            self.bn_list = norms(False)
        elif layout == "search-sabn":
            self.bns = norms(False)
            self.shared_weight = nn.Parameter(torch.randn(CHANNELS))
            self.shared_bias = nn.Parameter(torch.randn(CHANNELS))
        else:
            self.bn = nn.BatchNorm2d(CHANNELS, affine=layout == "sabn", track_running_stats=tracked)
        self.embed = nn.Embedding(ROUTES + (layout == "saauxbn"), 2 * CHANNELS)

    def forward(self, x: Tensor, r: int = 1) -> Tensor:
        def affine(y: Tensor, g: Tensor, b: Tensor) -> Tensor:
            return y * g.view(1, -1, 1, 1) + b.view(1, -1, 1, 1)

        if self.layout == "auxbn":
            return self.bn_list[r](x)  # type: ignore[no-any-return]
        rows = self.embed.weight
        if self.layout == "saauxbn":
            y = affine(self.bn_list[r](x), *rows[ROUTES].chunk(2))
        elif self.layout == "search-sabn":
            y = affine(self.bns[r](x), self.shared_weight, self.shared_bias)
        else:
            y = self.bn(x)
        return affine(y, *rows[r].chunk(2))


NORMS = {"auxbn": "auxbn", "saauxbn": "saauxbn", "search-sabn": "saauxbn", "sabn": "sabn", "ccbn": "ccbn"}


def official(layout: str, tracked: bool = True) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), Layer(layout, tracked), nn.Conv2d(CHANNELS, 2, 1))
    return randomise(model).eval()  # type: ignore[return-value]


def ours(norm: str, tracked: bool = True, routes: int = ROUTES) -> nn.Module:
    norm_layer = nn.BatchNorm2d(CHANNELS, track_running_stats=tracked)
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), norm_layer, nn.Conv2d(CHANNELS, 2, 1))
    return randomise(convert(model, norm, routes=routes)).eval()


@pytest.mark.parametrize(
    ("layout", "tracked"),
    [*((layout, True) for layout in NORMS), ("search-sabn", False), ("sabn", False), ("ccbn", False)],
)
def test_every_layout_loads_and_every_route_computes_the_same(layout: str, tracked: bool) -> None:
    theirs, x = official(layout, tracked), torch.randn(4, 3, 6, 6)
    model = ours(NORMS[layout], tracked)
    assert load_official(model, theirs.state_dict()) is model
    for r in range(ROUTES):
        expected = theirs[2](theirs[1](theirs[0](x), r))
        torch.testing.assert_close(through(model, r, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", NORMS)
def test_batch_counts_are_read(layout: str) -> None:
    theirs = Layer(layout)
    norms = getattr(theirs, "bn_list", getattr(theirs, "bns", None)) or [theirs.bn]
    for r, norm in enumerate(norms):
        norm.get_buffer("num_batches_tracked").add_(5 + r)
    model = convert(nn.Sequential(nn.BatchNorm2d(CHANNELS)), NORMS[layout], routes=ROUTES)
    load_official(model, {f"0.{key}": value for key, value in theirs.state_dict().items()})
    assert model.get_buffer("0.num_batches_tracked").flatten().tolist() == [5 + r for r in range(len(norms))]


def test_a_layer_alone_and_one_under_two_names() -> None:
    theirs, x = randomise(Layer("saauxbn")).eval(), torch.randn(2, CHANNELS, 3, 3)
    layer = SaAuxBN2d(CHANNELS, ROUTES).eval()
    load_official(layer, theirs.state_dict())
    torch.testing.assert_close(through(layer, 2, x), theirs(x, 2))
    twice = nn.ModuleDict({"a": SaAuxBN2d(CHANNELS, ROUTES).eval()})
    twice["b"] = twice["a"]
    state = {f"{name}.{key}": value for name in "ab" for key, value in theirs.state_dict().items()}
    load_official(twice, state)
    torch.testing.assert_close(through(twice["b"], 2, x), theirs(x, 2))


def test_state_saved_from_data_parallel() -> None:
    theirs, x = official("sabn"), torch.randn(4, 3, 6, 6)
    model = load_official(ours("sabn"), {f"module.{k}": v for k, v in theirs.state_dict().items()})
    torch.testing.assert_close(through(model, 1, x), theirs(x))


def test_plain_norms_beside_routed_ones_start_every_route() -> None:
    """The generators end in an unconditional batch norm."""
    theirs = nn.Sequential(randomise(Layer("sabn")), randomise(nn.BatchNorm2d(CHANNELS))).eval()
    model = convert(nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS)), "sabn", ROUTES).eval()
    load_official(model, theirs.state_dict())
    x = torch.randn(4, CHANNELS, 3, 3)
    for r in range(ROUTES):
        expected = theirs[1](theirs[0](x, r))
        torch.testing.assert_close(through(model, r, x), expected)


def without(layout: str, *keys: str, **more: Tensor) -> dict[str, Any]:
    state = {**official(layout).state_dict(), **{k.replace("__", "."): v for k, v in more.items()}}
    return {key: value for key, value in state.items() if key not in keys}


WRONG: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Any]], str]] = {
    "other preset": (
        lambda: ours("auxbn"),
        lambda: without("saauxbn"),
        "1 is saauxbn with 3 routes .* of auxbn with 3 routes in the model; convert with norm='saauxbn'",
    ),
    "other number of routes": (
        lambda: ours("saauxbn", routes=2),
        lambda: without("saauxbn"),
        "1 is saauxbn with 3 routes in the file, but .* with 2 routes in the model",
    ),
    "plain model": (lambda: nn.Sequential(nn.BatchNorm2d(3)), lambda: without("sabn"), "convert the model"),
    "plain state": (
        lambda: ours("sabn"),
        lambda: dict(nn.Sequential(nn.BatchNorm2d(3)).state_dict()),
        "no bn_list, bns or embed entry belongs to a routed layer",
    ),
    "checkpoint": (
        lambda: ours("sabn"),
        lambda: {"epoch": 3, "state_dict": {}},
        r"the entry 'epoch' is a int, not a tensor; give checkpoint\['state_dict'\]",
    ),
    "missing": (
        lambda: ours("sabn"),
        lambda: without("sabn", "0.weight", "1.bn.running_var"),
        "does not fit Sequential; it lacks 0.weight, 1.running_var",
    ),
    "unknown": (
        lambda: ours("saauxbn"),
        lambda: without("saauxbn", **{"1__bn_list__0__weight": torch.ones(4), "9__x": torch.ones(1)}),
        "it has unknown entries 9.x, 1.bn_list.0.weight",
    ),
    "shape": (
        lambda: ours("ccbn"),
        lambda: without("ccbn", **{"2__weight": torch.ones(2, 4, 3, 3)}),
        "size mismatch for 2.weight",
    ),
    "channels": (
        lambda: ours("ccbn"),
        lambda: without("ccbn", **{"1__embed__weight": torch.ones(3, 6)}),
        "size mismatch for 1.route_",
    ),
    "odd row": (
        lambda: ours("ccbn"),
        lambda: without("ccbn", **{"1__embed__weight": torch.ones(3, 7)}),
        r"1.embed.weight has shape \(3, 7\); rows of",
    ),
    "gap": (
        lambda: ours("auxbn"),
        lambda: without("auxbn", "1.bn_list.1.running_mean"),
        "1: running_mean is missing for some of the 3 routes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused_in_one_line_and_nothing_loaded(case: str) -> None:
    build, state, message = WRONG[case]
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=message) as caught:
        load_official(model, state())
    assert "\n" not in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_per_route_layers_by_hand_load_too() -> None:
    layer = RoutedBatchNorm2d(CHANNELS, ROUTES, statistics="per_route", affine="sandwich").eval()
    theirs, x = randomise(Layer("search-sabn")).eval(), torch.randn(2, CHANNELS, 3, 3)
    load_official(layer, theirs.state_dict())
    torch.testing.assert_close(through(layer, 0, x), theirs(x, 0))
