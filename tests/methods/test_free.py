"""Free adversarial training against plain Python on a linear network in float64; replays of batches."""

import math

import pytest
import torch

from robustsabn.data import load
from robustsabn.errors import ConfigError
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.step.accumulation import check_accumulation
from robustsabn.trainers.config import Augment
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.methods import Free
from tests.helpers.methods import X, Y, bench_for, linear, log_softmax, mean, one_hot, pixels, slope

EPS = 0.1


def test_one_backward_moves_the_perturbation_and_gives_the_weights_their_gradient() -> None:
    model = linear()
    bench = bench_for(model, 3, eps=EPS, steps=7, step_size=0.001, start="uniform")  # none of these matters
    delta = [[0.0] * 4 for _ in range(3)]
    for step in range(4):
        weight = model.get_parameter("1.weight")
        weight.grad = None
        with bench.at(step):
            losses = Free().losses(bench, X, Y)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
        x_adv = [
            [min(max(v + d, 0.0), 1.0) for v, d in zip(*rows, strict=True)]
            for rows in zip(pixels(X), delta, strict=True)
        ]
        by_hand = mean([-log_softmax(x)[y] for x, y in zip(x_adv, Y.tolist(), strict=True)])
        assert losses["loss"].item() == pytest.approx(by_hand, rel=1e-12)
        assert weight.grad is not None
        of_one = sum(
            (math.exp(log_softmax(x)[2]) - (y == 2)) * x[1] / 3
            for x, y in zip(x_adv, Y.tolist(), strict=True)
        )
        assert weight.grad[2, 1].item() == pytest.approx(of_one, rel=1e-12)
        for i, (x, y) in enumerate(zip(pixels(X), Y.tolist(), strict=True)):
            gradient = slope(x_adv[i], one_hot(y))
            for j in range(4):
                inside = 0 <= x[j] + delta[i][j] <= 1  # where the box cuts, the perturbation changes nothing
                sign = ((gradient[j] > 0) - (gradient[j] < 0)) * inside
                delta[i][j] = min(max(delta[i][j] + EPS * sign, -EPS), EPS)
        assert pixels(bench.carried["delta"]) == [pytest.approx(row, rel=1e-12) for row in delta]


def test_the_perturbation_of_other_norms_stays_in_their_ball() -> None:
    bench = bench_for(linear(), 3, norm="L2", eps=0.3)
    for step in range(3):
        with bench.at(step):
            Free().losses(bench, X, Y)["loss"].backward()  # type: ignore[no-untyped-call]
        assert bench.carried["delta"].flatten(1).norm(dim=1).le(0.3 + 1e-9).all()
    assert bench.carried["delta"].flatten(1).norm(dim=1).gt(0.1).all()


def test_every_batch_is_given_so_many_times_and_resumed_inside() -> None:
    images = load("digits").train
    augment = Augment(crop=1)

    def batches(replays: int) -> Batches:
        return Batches(
            images,
            batch_size=100,
            seed=0,
            augment=augment,
            device=torch.device("cpu"),
            replays=replays,
        )

    plain, thrice = batches(1), batches(3)
    assert thrice.steps_per_epoch == 3 * plain.steps_per_epoch
    last = plain.steps_per_epoch + 2  # into the second epoch
    once = [x for x, _ in plain.run(0, last)]
    seen = [x for x, _ in thrice.run(0, 3 * last)]
    assert len(seen) == 3 * last
    for i, x in enumerate(seen):
        assert torch.equal(x, once[i // 3])
    for start, stop in ((4, 9), (2, 3), (6, 6), (0, 1)):
        part = [x for x, _ in thrice.run(start, stop)]
        assert len(part) == stop - start
        assert all(torch.equal(a, b) for a, b in zip(part, seen[start:stop], strict=True))


def test_accumulation_is_refused() -> None:
    config = TrainConfig(method=Free(), accumulate=2)
    with pytest.raises(ConfigError, match="would change the method Free"):
        check_accumulation(config, linear(), slice(0, 8))


def test_replays_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="replays must be at least 1, got 0"):
        Free(replays=0)
