"""Names of routes are names of files, columns and tags, too; and numbers of NumPy are numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustsabn import Blend, Router, SaBN2d, Split, convert, route, routes_of
from robustsabn.errors import ConfigError, RouteError
from robustsabn.routing import Selection
from robustsabn.trainers import train
from tests.helpers.layer_reference import make

X = torch.randn(6, 3, 4, 4, dtype=torch.float64)
WRONG = [
    "../../x",
    "[red]",
    "a b",
    "",
    ".",
    "..",
    "a/b",
    "-x",
    "a\n",
    "a\0",
    "ä",
    "x" * 65,
    "<b>",
    "a.b",
    "all",
    3,
    None,
]


@pytest.mark.parametrize("name", ["0", "11", "clean", "adv_2", "fast-adv", "N02123394", "_", "x" * 64])
def test_names_that_are_fine(name: str) -> None:
    assert Router((name, "other")).index(name) == 0
    with route(SaBN2d(3, routes=(name, "other")), name):
        pass


@pytest.mark.parametrize("name", WRONG, ids=repr)
def test_names_that_are_not(name: object) -> None:
    with pytest.raises(RouteError, match=r"A-Z a-z 0-9 _ and -|means every route"):
        Router(("clean", name))  # type: ignore[arg-type]  # wrong on purpose
    network = nn.Sequential(nn.BatchNorm2d(3))
    with pytest.raises(RouteError):
        convert(network, routes=("clean", name))  # type: ignore[arg-type]  # wrong on purpose
    assert type(network[0]) is nn.BatchNorm2d


def test_a_run_with_such_names_is_refused_before_its_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not begin with -"):
        train("digits", ["routes=clean,../../x", f"out={tmp_path / 'run'}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("routes", [np.int64(3), np.uint8(3)])
def test_a_number_of_routes(routes: int) -> None:
    assert routes_of(SaBN2d(3, routes=routes)) == ("0", "1", "2")


@pytest.mark.parametrize("routes", [True, False, 0, -1, 2.0, np.float32(2), "clean", None, {"a": 1}])
def test_other_numbers(routes: object) -> None:
    with pytest.raises(RouteError, match="routes="):
        Router(routes)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (np.int64(1), 1),
        (np.uint8(1), 1),
        (np.str_("adv"), 1),
        (Split(clean=np.int32(2), adv=np.int64(4)), Split(clean=2, adv=4)),
        (Split((np.int64(0), 2), (np.int64(1), 4)), Split(clean=2, adv=4)),
        (Blend(clean=np.float32(0.25), adv=np.float64(0.75)), Blend(clean=0.25, adv=0.75)),
        (Blend(clean=np.int64(0), adv=1), Blend(adv=1.0)),
        (Blend(clean=Fraction(1, 4), adv=Fraction(3, 4)), Blend(clean=0.25, adv=0.75)),
    ],
    ids=str,
)
def test_numbers_of_numpy_are_numbers(given: Selection, same: Selection) -> None:
    model = make("saauxbn").eval()
    with route(model, given):
        y = model(X)
    with route(model, same):
        assert torch.equal(y, model(X))


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (lambda: np.array([0, 1, 1, 0, 1, 0]), "torch.as_tensor"),
        (lambda: [0, 1, 1, 0, 1, 0], "torch.as_tensor"),
        (lambda: (0, 1), "torch.as_tensor"),
        (lambda: np.float32(1), "allowed"),
        (lambda: np.bool_(True), "allowed"),
        (lambda: np.int64(2), "0 to 1"),
        (lambda: np.int64(-1), "0 to 1"),
        (lambda: torch.tensor(1), "LongTensor"),
        (lambda: torch.tensor([0, 1, 1, 0, 1, 0], dtype=torch.int32), "LongTensor"),
        (lambda: torch.tensor([True] * 6), "LongTensor"),
        (lambda: Split(clean=np.float32(2), adv=4), "at least 0"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Split(clean=True, adv=5), "at least 0"),
        (lambda: Split(clean=torch.tensor(2), adv=4), "at least 0"),
        (lambda: Split(3), "a pair"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Split("ab"), "a pair"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Split((0, 1, 2)), "a pair"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Split((0, 3), clean=3), "twice"),
        (lambda: Split((0, 3), (np.int64(0), 3)), "twice"),
        (lambda: Blend(clean=True, adv=0.0), "give numbers"),
        (lambda: Blend(clean="0.5", adv=0.5), "give numbers"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Blend(clean=float("nan"), adv=0.5), "sum to 1"),
        (lambda: Blend(clean=float("inf"), adv=0.5), "sum to 1"),
        (lambda: Blend(clean=10**400, adv=0.5), "sum to 1"),
        (lambda: Blend(np.array([0.5, 0.5])), "one float tensor"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_selections_that_are_none_say_what_is_allowed(selection: Callable[[], object], says: str) -> None:
    model = make("saauxbn").eval()
    with pytest.raises(RouteError, match=says), route(model, selection()):  # type: ignore[arg-type]  # wrong on purpose
        model(X)
    assert model.router.selection == 0


def test_a_named_blend_lies_beside_the_parameters() -> None:
    """One copy to the device a block, not one a layer."""
    model = make("saauxbn").to("meta").eval()
    with route(model, Blend(clean=0.3, adv=0.7)):
        assert model.router.selection.device.type == "meta"  # type: ignore[union-attr]  # a tensor
    half = make("saauxbn", torch.bfloat16).eval()
    with route(half, Blend(clean=0.3, adv=0.7)):
        assert model.router.selection == 0
        assert half.router.selection.dtype == torch.float32  # type: ignore[union-attr]  # a tensor
