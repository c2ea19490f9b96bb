"""Batch statistics of one value per channel: refused by every selection, as torch refuses a batch of one."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustsabn import RoutedBatchNorm1d, Split, convert, route
from robustsabn.errors import RouteError
from robustsabn.layers import PRESETS, RoutedBatchNorm
from robustsabn.routing import Selection
from robustsabn.trainers import train
from tests.helpers.layer_reference import make

PER_ROUTE = [name for name, preset in PRESETS.items() if preset.statistics == "per_route"]
ONE: dict[str, Selection] = {
    "split": Split(clean=1, adv=5),
    "split in another order": Split(adv=5, clean=1),
    "per sample": torch.tensor([0, 1, 1, 1, 1, 1]),
}
SAYS = "more than one value per channel"


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("selection", ONE)
@pytest.mark.parametrize("preset", PER_ROUTE)
def test_a_route_of_one_value_is_refused_and_nothing_moves(
    preset: str, selection: str, shape: tuple[int, ...]
) -> None:
    statistics, affine = PRESETS[preset]
    layer = RoutedBatchNorm(3, statistics=statistics, affine=affine, dtype=torch.float64)
    held = copy.deepcopy(layer.state_dict())
    with route(layer, ONE[selection]), pytest.raises(RouteError, match=SAYS):
        layer(torch.randn(6, 3, *shape, dtype=torch.float64))
    for name, value in layer.state_dict().items():
        assert torch.equal(value, held[name]), name


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("selection", [1, Split(clean=0, adv=1), torch.tensor([1])], ids=str)
def test_a_batch_of_one_value_is_refused(preset: str, selection: Selection) -> None:
    layer = make(preset)
    with route(layer, selection), pytest.raises(RouteError, match=SAYS):
        layer(torch.randn(1, 3, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("selection", ONE)
def test_what_has_more_values_is_not(preset: str, selection: str) -> None:
    layer = make(preset)
    with route(layer, ONE[selection]):
        layer(torch.randn(6, 3, 1, 2, dtype=torch.float64))  # two positions
        layer.eval()(torch.randn(6, 3, 1, 1, dtype=torch.float64))
    if layer.statistics == "shared":
        with route(layer, ONE[selection]):
            layer.train()(torch.randn(6, 3, 1, 1, dtype=torch.float64))


def test_layers_without_running_statistics_are_asked_in_eval_too() -> None:
    layer = make("saauxbn", track_running_stats=False).eval()
    with route(layer, Split(clean=1, adv=1)), pytest.raises(RouteError, match=SAYS):
        layer(torch.randn(2, 3, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize("selection", ONE)
def test_compiled_too(selection: str) -> None:
    torch._dynamo.reset()
    layer = RoutedBatchNorm1d(3, statistics="per_route")
    compiled: Callable[[Tensor], Tensor] = torch.compile(layer, backend="eager")
    if isinstance(ONE[selection], Tensor):  # the graph for any routes, traced with routes that are right
        with route(layer, torch.tensor([0, 0, 1, 1, 1, 1])):
            compiled(torch.randn(6, 3))
    with route(layer, ONE[selection]), pytest.raises(Exception, match=SAYS):
        compiled(torch.randn(6, 3))


@pytest.mark.filterwarnings("ignore:.*stays untrained")
@pytest.mark.parametrize("method", ["paired", "pgd"])
def test_training_with_one_image_a_step_is_refused(method: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, in_channels):\n"
        "    first = nn.Linear(64 * in_channels, 8)\n"
        "    return nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(8), nn.Linear(8, num_classes))\n"
    )
    config = {
        "model": f"{tmp_path}/net.py:make",
        "method": method,
        "norm": "saauxbn",
        "out": f"{tmp_path}/run",
    }
    limits = ["test.images=20", "validation.images=20", "attack.steps=1", "steps=2"]
    with pytest.raises(RouteError, match=SAYS):
        train(config, ["batch_size=1", "device=cpu", *limits])


def test_the_message_says_what_to_do() -> None:
    model = convert(nn.Sequential(nn.BatchNorm1d(4)), norm="auxbn").train()
    says = (
        "RoutedBatchNorm1d got one sample for route 'clean', and batch statistics need more than one value "
        "per channel"
    )
    with route(model, Split(clean=1, adv=3)), pytest.raises(RouteError, match=re.escape(says)):
        model(torch.randn(4, 4))
