"""Networks that fold windows, patches or frames into the batch: a Split is refused with advice that works."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustsabn import Split, convert
from robustsabn.errors import RouteError
from robustsabn.trainers.methods import AdvProp, FastAdvProp, Paired
from robustsabn.trainers.methods.base import Forward
from tests.helpers.methods import bench_for, images
from tests.helpers.randomise import through


class Windows(nn.Module):
    """Norms on the four quarters of each image, (4 N, C, H / 2, W / 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).unflatten(2, (2, -1)).unflatten(4, (2, -1))
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        out: Tensor = self.head(self.norm(x).mean((2, 3)).unflatten(0, (-1, 4)).mean(1))
        return out


@pytest.mark.parametrize("selection", [Split(clean=2, adv=4), torch.tensor([0, 1, 0, 1, 1, 0])])
def test_the_message_names_the_way_out(selection: Split | Tensor) -> None:
    with pytest.raises(RouteError, match=r"folds 4 windows .* method\.forward=separate"):
        through(convert(Windows()), selection, torch.rand(6, 1, 4, 4))


def test_the_way_out_is_not_named_where_sizes_are_just_wrong() -> None:
    with pytest.raises(RouteError, match=r"make them equal$"):
        through(convert(nn.Sequential(nn.BatchNorm2d(1))), Split(clean=2, adv=2), torch.rand(6, 1, 4, 4))


@pytest.mark.parametrize("method", [Paired, AdvProp, FastAdvProp])
def test_separate_forwards_train_such_a_network(method: type[Paired | AdvProp | FastAdvProp]) -> None:
    # two adversarial images: the mean of one that a batch norm has centred is zero up to rounding
    x, y = images(10)
    torch.manual_seed(0)
    model = convert(Windows()).train()
    bench = bench_for(model, 10)
    with pytest.raises(RouteError, match="separate"), bench.at(0):
        method().losses(bench, x, y)
    with bench.at(0):
        method(forward="separate").losses(bench, x, y)["loss"].backward()  # type: ignore[no-untyped-call]
    table = dict(model.named_parameters())["norm.route_weight"].grad
    assert table is not None
    assert bool((table != 0).all())


@pytest.mark.parametrize("method", [AdvProp, FastAdvProp])
def test_split_and_separate_are_one_where_routes_have_their_own_statistics(
    method: type[AdvProp | FastAdvProp],
) -> None:
    x, y = images(10)
    losses = []
    forwards: tuple[Forward, ...] = ("split", "separate")
    for forward in forwards:
        torch.manual_seed(0)
        plain = nn.Sequential(
            nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * x[0].numel(), 3)
        )
        model = convert(plain, "saauxbn").train()
        bench = bench_for(model, 10)
        with bench.at(0):
            losses.append(method(forward=forward).losses(bench, x, y)["loss"])
    torch.testing.assert_close(losses[0], losses[1])
