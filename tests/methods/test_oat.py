"""OAT-style training against a routed linear network in float64, worked out in plain Python."""

from collections import Counter

import pytest

from robustsabn.errors import ConfigError
from robustsabn.trainers.methods import Oat
from tests.helpers.methods import bench_for, images, network, pixels
from tests.helpers.routed_linear import ascended, batch, log_probabilities, lost, routed, started

EPS = 0.1


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_both_kinds_of_image_go_through_the_blend_and_weigh_as_it_does(share: float) -> None:
    x, y = batch(5)
    bench = bench_for(routed(), 5, eps=EPS, steps=3, step_size=0.04)
    losses = Oat((share,)).losses(bench, x, y)
    rows, x_adv = pixels(x), started(x, bench.noise(x), EPS)
    for _ in range(3):
        x_adv = ascended(x_adv, rows, y.tolist(), 0.04, EPS, training=False, share=share)
    # one batch: its statistics are those of both kinds together
    together = [
        -p[label]
        for p, label in zip(log_probabilities([*rows, *x_adv], share, True), 2 * y.tolist(), strict=True)
    ]
    expected = (1 - share) * sum(together[:5]) / 5 + share * sum(together[5:]) / 5
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-10)
    assert losses["lambda"].item() == pytest.approx(share)


def test_the_ends_are_normal_and_adversarial_training() -> None:
    x, y = batch(5)
    bench = bench_for(routed(), 5, eps=EPS, steps=2, step_size=0.04)
    clean = Oat((0.0,)).losses(bench, x, y)["loss"].item()
    assert clean == pytest.approx(lost(pixels(x), y.tolist(), 0), rel=1e-10)
    bench = bench_for(routed(), 5, eps=EPS, steps=2, step_size=0.04)
    x_adv = started(x, bench.noise(x), EPS)
    for _ in range(2):
        x_adv = ascended(x_adv, pixels(x), y.tolist(), 0.04, EPS, training=False)
    adversarial = Oat((1.0,)).losses(bench, x, y)["loss"].item()
    assert adversarial == pytest.approx(lost(x_adv, y.tolist(), 1), rel=1e-10)


def test_every_share_is_drawn_as_often_and_the_same_on_every_process() -> None:
    first, second = (bench_for(routed(), n) for n in (4, 2))
    drawn = []
    for step in range(600):
        with first.at(step), second.at(step):
            drawn.append(first.pick((0.0, 0.5, 1.0)))
            assert drawn[-1] == second.pick((0.0, 0.5, 1.0))
    assert all(150 < count < 250 for count in Counter(drawn).values())


def test_networks_without_routes_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="method oat needs a route for clean and one for adversarial images"
    ):
        Oat().losses(bench_for(network(), 6), *images())


@pytest.mark.parametrize("lambdas", [(), (0.5, 1.5), (-0.1,)])
def test_shares_out_of_range_are_refused(lambdas: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="lambdas are shares of the adversarial route"):
        Oat(lambdas)
