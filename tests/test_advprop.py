"""AdvProp and Fast AdvProp against a routed linear network in float64, worked out in plain Python."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from method_helpers import LINEAR, bench_for, images, mean, network, pixels
from torch import Tensor, nn

from robustsabn.conversion import convert
from robustsabn.errors import ConfigError
from robustsabn.layers import RoutedBatchNorm1d
from robustsabn.routing import route
from robustsabn.trainers.bench import StepBench
from robustsabn.trainers.methods import AdvProp, FastAdvProp

Row = list[float]
SCALE = {"clean": [1.2, 0.8, 1.0], "adv": [0.7, 1.5, 1.1]}
SHIFT = {"clean": [0.1, 0.0, -0.2], "adv": [-0.3, 0.2, 0.0]}
EPS = 0.1


def routed() -> nn.Module:
    """Images (N, 1, 2, 2) to three logits: W x + b, normalised and scaled per route."""
    norm = RoutedBatchNorm1d(3, statistics="per_route", affine="independent")
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), norm).double().train()
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor(LINEAR[0], dtype=torch.float64))
        model.get_parameter("1.bias").copy_(torch.tensor(LINEAR[1], dtype=torch.float64))
        model.get_parameter("2.route_weight").copy_(torch.tensor(list(SCALE.values()), dtype=torch.float64))
        model.get_parameter("2.route_bias").copy_(torch.tensor(list(SHIFT.values()), dtype=torch.float64))
    return model


def log_probabilities(rows: list[Row], name: str, training: bool) -> list[Row]:
    """What `routed` gives images, in train mode or with its initial running statistics (mean 0, variance 1)."""
    z = [
        [sum(w * v for w, v in zip(LINEAR[0][k], x, strict=True)) + LINEAR[1][k] for k in range(3)]
        for x in rows
    ]
    center, spread = [0.0] * 3, [1.0] * 3
    if training:
        center = [mean([row[k] for row in z]) for k in range(3)]
        spread = [mean([(row[k] - center[k]) ** 2 for row in z]) for k in range(3)]
    out = []
    for row in z:
        scaled = [
            SCALE[name][k] * (row[k] - center[k]) / math.sqrt(spread[k] + 1e-5) + SHIFT[name][k]
            for k in range(3)
        ]
        total = math.log(sum(math.exp(v) for v in scaled))
        out.append([v - total for v in scaled])
    return out


def lost(rows: list[Row], labels: list[int], name: str, training: bool = True) -> float:
    return mean([-p[y] for p, y in zip(log_probabilities(rows, name, training), labels, strict=True)])


def ascended(
    rows: list[Row], around: list[Row], labels: list[int], size: float, training: bool, sign: int = 1
) -> list[Row]:
    """One step by the signs of central differences of the loss through the adversarial route, in the ball and the box."""
    moved = []
    for i, row in enumerate(rows):
        new = []
        for j, value in enumerate(row):
            ends = []
            for shift in (1e-6, -1e-6):
                other = [list(r) for r in rows]
                other[i][j] += shift
                ends.append(lost(other, labels, "adv", training))
            slope = sign * (ends[0] - ends[1])
            reached = value + size * ((slope > 0) - (slope < 0))
            new.append(min(max(reached, around[i][j] - EPS, 0.0), around[i][j] + EPS, 1.0))
        moved.append(new)
    return moved


def batch(n: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(3)
    return torch.rand(n, 1, 2, 2, generator=source, dtype=torch.float64), torch.arange(n) % 3


def test_advprop_adds_images_on_their_way_to_a_wrong_class() -> None:
    x, y = batch(4)
    bench = bench_for(routed(), 4, eps=EPS, steps=3, step_size=0.04)
    losses = AdvProp().losses(bench, x, y)
    targets = bench.other_classes(y).tolist()
    rows = pixels(x)
    x_adv = [
        [min(max(v + d, v - EPS, 0.0), v + EPS, 1.0) for v, d in zip(row, noise, strict=True)]
        for row, noise in zip(rows, pixels(bench.noise(x)), strict=True)
    ]
    for _ in range(3):
        x_adv = ascended(x_adv, rows, targets, 0.04, training=False, sign=-1)
    expected = lost(rows, y.tolist(), "clean") + lost(x_adv, y.tolist(), "adv")
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_targets_are_wrong_classes_of_every_kind_and_those_of_the_whole_batch() -> None:
    y = torch.arange(3).repeat(40)
    bench = bench_for(routed(), 120)
    found = bench.other_classes(y)
    assert (found != y).all()
    assert {(a, b) for a, b in zip(y.tolist(), found.tolist(), strict=True)} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }
    parts = [
        StepBench(
            bench.accelerator,
            bench.raw,
            bench.raw,
            bench.config,
            seed=0,
            batch_size=120,
            share=share,
            classes=3,
        ).other_classes(y[share])
        for share in (slice(0, 60), slice(60, 120))
    ]
    assert torch.equal(torch.cat(parts), found)
    with bench.at(1):
        assert not torch.equal(bench.other_classes(y), found)


def fast(n: int, every: int) -> tuple[StepBench, dict[str, Any], Tensor, Tensor, Tensor, Tensor]:
    x, y = batch(n)
    bench = bench_for(routed(), n, eps=EPS)
    chosen = torch.tensor([i % every == every - 1 for i in range(n)])
    return bench, {"x": x, "y": y}, x[~chosen], y[~chosen], x[chosen], y[chosen]


@pytest.mark.parametrize(("n", "every"), [(6, 2), (8, 2), (12, 3)])
def test_fast_advprop_takes_every_so_many_th_image_for_the_attack(n: int, every: int) -> None:
    bench, given, x, y, x_, y_ = fast(n, every)
    losses = FastAdvProp(every=every).losses(bench, **given)
    rows = pixels(x_)
    noise = pixels(bench.noise(given["x"])[every - 1 :: every])
    start = [
        [min(max(v + d, 0.0), 1.0) for v, d in zip(a, b, strict=True)]
        for a, b in zip(rows, noise, strict=True)
    ]
    x_adv = ascended(start, rows, y_.tolist(), EPS, training=True)
    s = len(rows) / n
    first, last = lost(start, y_.tolist(), "adv"), lost(x_adv, y_.tolist(), "adv")
    expected = (1 - s) * lost(pixels(x), y.tolist(), "clean") + s * (first + last) / 2
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-10)
    assert losses["start_loss"].item() == pytest.approx(first, rel=1e-10)


def test_fast_advprop_gradients_are_those_of_its_loss_and_each_routes_own_are_means_over_its_images() -> None:
    n, every = 9, 3
    bench, given, x, y, _, y_ = fast(n, every)
    model = bench.raw
    seen: list[Tensor] = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with bench.at(0):
        FastAdvProp(every=every).losses(bench, **given)["loss"].backward()  # type: ignore[no-untyped-call]
    hook.remove()
    start, mixed = seen
    x_adv = mixed[len(x) :]
    torch.testing.assert_close(mixed[: len(x)], x)
    found = {name: p.grad for name, p in model.named_parameters()}

    def gradients(images: Tensor, labels: Tensor, name: str) -> dict[str, Tensor]:
        with route(model, name):
            loss = F.cross_entropy(model(images), labels)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        return dict(zip([name for name, _ in model.named_parameters()], grads, strict=True))

    clean, first, last = gradients(x, y, "clean"), gradients(start, y_, "adv"), gradients(x_adv, y_, "adv")
    for name in clean:
        own = name in ("2.route_weight", "2.route_bias")
        a, b = (1, 1) if own else (2 / 3, 1 / 3)
        expected = a * clean[name] + b * (first[name] + last[name]) / 2
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-12)


def test_fast_advprop_scales_no_later_step() -> None:
    x, y = images()
    model = convert(network(), norm="saauxbn").train()
    bench = bench_for(model, 6)
    with bench.at(0):
        FastAdvProp(every=2).losses(bench, x, y)["loss"].backward()  # type: ignore[no-untyped-call]
    table = model.get_parameter("1.route_weight")
    table.grad = None
    with route(model, "adv"):
        loss = F.cross_entropy(model(x), y)
    (expected,) = torch.autograd.grad(loss, table, retain_graph=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(table.grad, expected)


@pytest.mark.parametrize("method", [AdvProp(), FastAdvProp()])
def test_networks_without_routes_are_refused(method: AdvProp | FastAdvProp) -> None:
    # one normalisation for both kinds of image would silently be another method
    x, y = images()
    with pytest.raises(ConfigError, match="needs a route for clean and one for adversarial images"):
        method.losses(bench_for(network(), 6), x, y)


def test_batches_without_an_adversarial_image_are_refused() -> None:
    x, y = images(4)
    with pytest.raises(ConfigError, match="every is 5, for batches of 4 images"):
        FastAdvProp().losses(bench_for(convert(network()), 4), x, y)


@pytest.mark.parametrize(("key", "value"), [("every", 1), ("alpha", 0.0)])
def test_values_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        FastAdvProp(**{key: value})  # type: ignore[arg-type]
