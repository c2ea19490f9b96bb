"""One-step methods against steps on a linear network in float64, worked out in plain Python."""

import math

import pytest
import torch
from torch import nn

from robustsabn.errors import ConfigError
from robustsabn.trainers.methods import FgsmRs, GradAlign, NFgsm
from tests.helpers.methods import (
    LINEAR,
    X,
    Y,
    bench_for,
    clipped,
    images,
    linear,
    log_softmax,
    mean,
    network,
    one_hot,
    pixels,
    slope,
)

Row = list[float]
EPS = 0.1


def stepped(start: Row, label: int, size: float) -> Row:
    """`start` moved by `size` along the signs of the gradient."""
    return [v + size * ((g > 0) - (g < 0)) for v, g in zip(start, slope(start, one_hot(label)), strict=True)]


def lost(x_adv: list[Row]) -> float:
    return mean([-log_softmax(x)[y] for x, y in zip(x_adv, Y.tolist(), strict=True)])


def cosine(a: Row, b: Row) -> float:
    size = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / size


@pytest.mark.parametrize("alpha", [1.25, 0.5])
def test_fgsm_rs_is_one_step_from_a_uniform_start(alpha: float) -> None:
    bench = bench_for(linear(), 3, eps=EPS, steps=7, step_size=0.001, start="none")  # none of these matters
    losses = FgsmRs(alpha).losses(bench, X, Y)
    x_adv = []
    for x, noise, y in zip(pixels(X), pixels(bench.noise(X)), Y.tolist(), strict=True):
        start = clipped([v + d for v, d in zip(x, noise, strict=True)], x, EPS)
        x_adv.append(clipped(stepped(start, y, alpha * EPS), x, EPS))
    assert losses["loss"].item() == pytest.approx(lost(x_adv), rel=1e-12)
    reached = mean(
        [max(abs(a - b) for a, b in zip(u, v, strict=True)) for u, v in zip(x_adv, pixels(X), strict=True)]
    )
    assert losses["distance"].item() == pytest.approx(reached, rel=1e-12)


@pytest.mark.parametrize(("k", "alpha"), [(2.0, 1.0), (0.5, 2.0)])
def test_n_fgsm_leaves_the_ball_but_not_the_box(k: float, alpha: float) -> None:
    bench = bench_for(linear(), 3, eps=EPS)
    losses = NFgsm(k, alpha).losses(bench, X, Y)
    x_adv = []
    for x, noise, y in zip(pixels(X), pixels(bench.noise(X)), Y.tolist(), strict=True):
        start = [min(max(v + k * d, 0.0), 1.0) for v, d in zip(x, noise, strict=True)]
        x_adv.append([min(max(v, 0.0), 1.0) for v in stepped(start, y, alpha * EPS)])
    assert losses["loss"].item() == pytest.approx(lost(x_adv), rel=1e-12)
    assert losses["distance"].item() > EPS * 1.2
    assert all(0 <= v <= 1 for row in x_adv for v in row)


def test_grad_align_adds_the_misalignment_of_gradients() -> None:
    bench = bench_for(linear(), 3, eps=EPS)
    losses = GradAlign(lam=3.0).losses(bench, X, Y)
    x_adv, apart = [], []
    for x, noise, y in zip(pixels(X), pixels(bench.noise(X, purpose="align")), Y.tolist(), strict=True):
        x_adv.append(clipped(stepped(x, y, 1.25 * EPS), x, EPS))
        beside = [v + d for v, d in zip(x, noise, strict=True)]
        apart.append(1 - cosine(slope(x, one_hot(y)), slope(beside, one_hot(y))))
    assert losses["misalignment"].item() == pytest.approx(mean(apart), rel=1e-9)
    assert losses["loss"].item() == pytest.approx(lost(x_adv) + 3 * mean(apart), rel=1e-12)
    assert mean(apart) > 1e-4


def test_the_misalignment_is_differentiated_at_the_noisy_image_alone() -> None:
    # against central differences in plain Python, the gradient at the image itself held still
    model = linear()
    bench = bench_for(model, 3, eps=EPS)
    weight = model.get_parameter("1.weight")
    (found,) = torch.autograd.grad(GradAlign(lam=0.0).losses(bench, X, Y)["misalignment"], weight)

    def apart(weights: list[Row]) -> float:
        noise = pixels(bench.noise(X, purpose="align"))
        beside = [[v + d for v, d in zip(x, n, strict=True)] for x, n in zip(pixels(X), noise, strict=True)]
        pairs = zip(pixels(X), beside, Y.tolist(), strict=True)
        return mean([1 - cosine(slope(x, one_hot(y)), slope(b, one_hot(y), weights)) for x, b, y in pairs])

    for row, column in ((0, 1), (2, 3)):
        values = []
        for shift in (1e-5, -1e-5):
            moved = [list(r) for r in LINEAR[0]]
            moved[row][column] += shift
            values.append(apart(moved))
        assert found[row, column].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_images_without_a_gradient_are_left_out_of_the_misalignment() -> None:
    class Flat(nn.Module):
        """The first image's logits do not depend on it."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z: torch.Tensor = self.inner(x)
            return torch.cat([0 * z[:1], z[1:]])

    model = Flat()
    found = GradAlign(lam=1.0).losses(bench_for(model, 3, eps=EPS), X, Y)
    found["loss"].backward()  # type: ignore[no-untyped-call]
    noise = pixels(bench_for(model, 3, eps=EPS).noise(X, purpose="align"))
    apart = []
    for x, n, y in list(zip(pixels(X), noise, Y.tolist(), strict=True))[1:]:
        beside = [v + d for v, d in zip(x, n, strict=True)]
        apart.append(1 - cosine(slope(x, one_hot(y)), slope(beside, one_hot(y))))
    assert found["misalignment"].item() == pytest.approx(mean(apart), rel=1e-9)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_gradients_of_tiny_size_are_aligned_like_others() -> None:
    # a network sure of itself has input gradients whose squares are zero in float32
    def misalignment(sharpness: float) -> float:
        model = linear().float()
        bias = torch.tensor([sharpness, 0.0, 0.0])
        model.get_parameter("1.bias").data += bias
        y = torch.zeros(3, dtype=torch.long)
        return GradAlign(lam=1.0).losses(bench_for(model, 3, eps=EPS), X.float(), y)["misalignment"].item()

    assert misalignment(60) == pytest.approx(misalignment(20), rel=1e-2)


@pytest.mark.parametrize(("eps", "expected"), [(8 / 255, 0.2), (16 / 255, 2.0)])
def test_grad_align_left_out_weight_is_the_published_one(eps: float, expected: float) -> None:
    given, default = (
        GradAlign(lam).losses(bench_for(linear(), 3, eps=eps), X, Y) for lam in (expected, None)
    )
    assert default["loss"].item() == pytest.approx(given["loss"].item(), rel=1e-9)


@pytest.mark.parametrize("attack", [{"eps": 0.1}, {"norm": "L2", "eps": 0.05}])
def test_grad_align_asks_for_a_weight_where_none_was_published(attack: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give one, such as method"):
        GradAlign().losses(bench_for(linear(), 3, **attack), X, Y)


def test_gradients_are_the_attacks() -> None:
    # train mode of the network, dropout and batch statistics do not leak into them
    x, y = images()
    model = nn.Sequential(nn.Dropout(0.5), network()).train()
    bench = bench_for(model, 6)
    assert torch.equal(bench.gradient(x, y), bench.gradient(x, y))
    assert torch.equal(bench.gradient(x, y), bench.gradient(x, y, create_graph=True))
    (first,) = bench.gradient(x[:1], y[:1])
    torch.testing.assert_close(first, bench.gradient(x, y)[0])
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FgsmRs(alpha=0), "alpha must be positive, got 0"),
        (lambda: NFgsm(k=-1), "k must be at least 0, got -1"),
        (lambda: NFgsm(alpha=-1), "alpha must be positive, got -1"),
        (lambda: GradAlign(lam=-0.1), "lam must be at least 0, got -0.1"),
    ],
)
def test_values_out_of_range_are_refused(make: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
