"""TRADES and MART against steps on a linear network in float64, worked out in plain Python."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from robustsabn.attacks.losses import kl
from robustsabn.errors import ConfigError
from robustsabn.trainers.methods import Mart, Trades
from tests.helpers.methods import (
    Scripted,
    X,
    Y,
    answered,
    bench_for,
    divergence,
    linear,
    log_softmax,
    mean,
    one_hot,
    pixels,
    sign_ascent,
    slope,
)

EPS, STEPS, SIZE = 0.1, 3, 0.04


def attacked(start: Tensor, targets: list[list[float]]) -> list[list[float]]:
    """PGD on the cross-entropy with constant `targets`, whose gradient is that of the KL as well."""
    found = []
    for x, d0, t in zip(pixels(X), pixels(start), targets, strict=True):
        first = [v + d for v, d in zip(x, d0, strict=True)]
        found.append(sign_ascent(x, first, partial(slope, target=t), SIZE, EPS, STEPS))
    return found


@pytest.mark.parametrize("beta", [6.0, 0.5])
def test_trades_is_cross_entropy_plus_divergence_to_its_own_maximiser(beta: float) -> None:
    bench = bench_for(linear(), 3, eps=EPS, steps=STEPS, step_size=SIZE)
    losses = Trades(beta).losses(bench, X, Y)
    clean = [log_softmax(x) for x in pixels(X)]
    x_adv = attacked(bench.noise(X, "normal"), [[math.exp(v) for v in row] for row in clean])
    fit = mean([-row[y] for row, y in zip(clean, Y.tolist(), strict=True)])
    apart = mean([divergence(p, log_softmax(x)) for p, x in zip(clean, x_adv, strict=True)])
    assert losses["loss"].item() == pytest.approx(fit + beta * apart, rel=1e-12)
    assert losses["kl"].item() == pytest.approx(apart, rel=1e-12)
    assert apart > 0.02


@pytest.mark.parametrize("beta", [5.0, 0.5])
def test_mart_weighs_by_the_doubt_about_the_clean_image(beta: float) -> None:
    bench = bench_for(linear(), 3, eps=EPS, steps=STEPS, step_size=SIZE)
    losses = Mart(beta).losses(bench, X, Y)
    x_adv = attacked(bench.noise(X, "normal"), [one_hot(y) for y in Y.tolist()])
    total = 0.0
    for x, x_, y in zip(pixels(X), x_adv, Y.tolist(), strict=True):
        clean, adv = log_softmax(x), log_softmax(x_)
        wrong = max(math.exp(adv[k]) for k in range(3) if k != y)
        total += -adv[y] - math.log(1.0001 - wrong)
        total += beta * divergence(clean, adv) * (1.0000001 - math.exp(clean[y]))
    assert losses["loss"].item() == pytest.approx(total / 3, rel=1e-12)


@pytest.mark.parametrize("method", [Trades(), Mart()])
def test_gradients_flow_through_the_clean_prediction(method: Trades | Mart) -> None:
    # against central differences of the loss, with the adversarial images held still
    model = linear()
    bench, x_adv = bench_for(model, 3), (X + 0.05).clamp(0, 1)
    weight = model.get_parameter("1.weight")
    loss = method.objective(bench, X, x_adv, Y)["loss"]
    (found,) = torch.autograd.grad(loss, weight)
    for place in ((0, 0), (1, 2), (2, 3)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * 1e-5
                values.append(method.objective(bench, X, x_adv, Y)["loss"].item())
                weight[place] -= sign * 1e-5
        assert found[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("method", [Trades, Mart])
def test_clean_and_adversarial_images_take_their_routes(method: type[Trades] | type[Mart]) -> None:
    x = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
    values = []
    for forward, expected in (("separate", ["clean", "adv"]), ("split", ["Split(clean=3, adv=3)"])):
        bench = Scripted()
        losses = answered(method(forward=forward), bench, x, Y)  # type: ignore[arg-type]
        values.append(losses["loss"].item())
        asked = ["predict clean"] if method is Trades else []
        assert bench.asked == [*asked, "attack", *expected]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_the_configured_attack_loss_takes_the_place_of_the_divergence() -> None:
    start = bench_for(linear(), 3, start="normal").noise(X, "normal")
    assert start.abs().max() < 0.01
    free, fixed = (
        Trades().craft(bench_for(linear(), 3, eps=EPS, steps=2, **more), X, Y)
        for more in ({}, {"loss": "ce", "start": "uniform"})
    )
    expected = bench_for(linear(), 3, eps=EPS, steps=2).attack(X, Y)
    torch.testing.assert_close(fixed, expected)
    assert not torch.equal(free, fixed)


def test_half_precision_logits_are_compared_in_float32() -> None:
    z = torch.tensor([[8.0, -8.0, 0.0]], dtype=torch.bfloat16)
    assert kl(z, z + 1).dtype == torch.float32


@pytest.mark.parametrize("method", [Trades, Mart])
def test_negative_weights_are_refused(method: type[Trades] | type[Mart]) -> None:
    with pytest.raises(ConfigError, match="beta must be at least 0, got -1"):
        method(beta=-1)
