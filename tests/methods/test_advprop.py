"""AdvProp and Fast AdvProp against a routed linear network in float64, worked out in plain Python."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.conversion.convert import convert
from robustsabn.errors import ConfigError
from robustsabn.routing import route
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.methods import AdvProp, FastAdvProp
from tests.helpers.methods import bench_for, images, network, pixels
from tests.helpers.routed_linear import ascended, batch, lost, routed, started

Row = list[float]
EPS = 0.1


def test_advprop_adds_images_on_their_way_to_a_wrong_class() -> None:
    x, y = batch(4)
    bench = bench_for(routed(), 4, eps=EPS, steps=3, step_size=0.04)
    losses = AdvProp().losses(bench, x, y)
    targets = bench.other_classes(y).tolist()
    rows, x_adv = pixels(x), started(x, bench.noise(x), EPS)
    for _ in range(3):
        x_adv = ascended(x_adv, rows, targets, 0.04, EPS, training=False, sign=-1)
    expected = lost(rows, y.tolist(), 0) + lost(x_adv, y.tolist(), 1)
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
        AdversarialStep(
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


def fast(n: int, every: int) -> tuple[AdversarialStep, dict[str, Any], Tensor, Tensor, Tensor, Tensor]:
    x, y = batch(n)
    bench = bench_for(routed(), n, eps=EPS)
    chosen = torch.tensor([i % every == every - 1 for i in range(n)])
    return bench, {"x": x, "y": y}, x[~chosen], y[~chosen], x[chosen], y[chosen]


@pytest.mark.parametrize(("n", "every"), [(6, 2), (8, 2), (12, 3)])
def test_fast_advprop_takes_every_so_many_th_image_for_the_attack(n: int, every: int) -> None:
    bench, given, x, y, x_, y_ = fast(n, every)
    losses = FastAdvProp(every=every).losses(bench, **given)
    rows = pixels(x_)
    start = started(x_, bench.noise(given["x"])[every - 1 :: every], EPS)
    x_adv = ascended(start, rows, y_.tolist(), EPS, EPS, training=True)
    s = len(rows) / n
    first, last = lost(start, y_.tolist(), 1), lost(x_adv, y_.tolist(), 1)
    expected = (1 - s) * lost(pixels(x), y.tolist(), 0) + s * (first + last) / 2
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
    table = dict(model.named_parameters())["1.route_weight"]
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
