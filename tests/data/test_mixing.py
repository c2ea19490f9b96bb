"""CutMix and MixUp: formulas, equal mixtures on any number of processes, and methods on mixed labels."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from robustsabn.config import load
from robustsabn.conversion.convert import convert
from robustsabn.data import load_test
from robustsabn.data.mixing import draw_mixing
from robustsabn.errors import ConfigError
from robustsabn.trainers import TrainConfig, train
from robustsabn.trainers.config import Augment
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.methods import METHODS, Method, Paired, Pgd, Standard, Trades
from tests.helpers.methods import Scripted, answered, bench_for, images, logits_of, network
from tests.helpers.runs import METHOD_OPTIONS, die, of_method, same

N, SIZE = 6, (5, 7)
MIXES = [name for name, cls in METHODS.items() if cls.mixes]


def pixels() -> tuple[Tensor, Tensor]:
    return torch.rand(N, 2, *SIZE, generator=torch.Generator().manual_seed(3)), torch.arange(N) % 4


def test_mixup_is_that_of_the_formula() -> None:
    x, y = pixels()
    mixing = draw_mixing("mixup", N, SIZE, 1.0, seed=5)
    mixed, labels = mixing.apply(x, y, 4)
    assert sorted(mixing.other.tolist()) == mixing.own.tolist() == list(range(N))
    for i in range(N):
        lam, j = mixing.share[i].item(), int(mixing.other[i])
        torch.testing.assert_close(mixed[i], lam * x[i] + (1 - lam) * x[j])
        by_hand = [lam * (y[i] == k) + (1 - lam) * (y[j] == k) for k in range(4)]
        assert labels[i].tolist() == pytest.approx([float(v) for v in by_hand], abs=1e-6)


def test_cutmix_takes_one_box_and_counts_its_pixels() -> None:
    x, y = pixels()
    areas = set()
    for seed in range(30):
        mixing = draw_mixing("cutmix", N, SIZE, 1.0, seed)
        assert mixing.box is not None
        mixed, labels = mixing.apply(x, y, 4)
        for i, (top, bottom, left, right) in enumerate(mixing.box.tolist()):
            j, taken = int(mixing.other[i]), 0
            for row in range(SIZE[0]):
                for column in range(SIZE[1]):
                    inside = top <= row < bottom and left <= column < right
                    taken += inside
                    assert torch.equal(mixed[i, :, row, column], x[j if inside else i, :, row, column])
            lam = 1 - taken / math.prod(SIZE)
            by_hand = [lam * float(y[i] == k) + (1 - lam) * float(y[j] == k) for k in range(4)]
            assert labels[i].tolist() == pytest.approx(by_hand, abs=1e-6)
            areas.add(taken)
    assert {0} < areas
    assert len(areas) > 8


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_shares_are_from_the_beta_distribution(alpha: float) -> None:
    n = 20_000
    share = draw_mixing("mixup", n, SIZE, alpha, seed=1).share.double().numpy()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean() - 0.5) < 5 * math.sqrt(variance / n)
    assert share.var() == pytest.approx(variance, rel=0.05)
    # of a box far from the border of a large image, 1 - lam of the area
    large = draw_mixing("cutmix", n, (1000, 1000), alpha, seed=1)
    assert large.box is not None
    top, bottom, left, right = large.box.numpy().T
    whole = (top > 0) & (bottom < 1000) & (left > 0) & (right < 1000)
    aimed = 1 - np.asarray(share)
    assert whole.sum() > 1000
    assert np.abs((bottom - top) * (right - left) / 1e6 - aimed)[whole].max() < 0.005


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_shares_of_processes_make_the_batch(mix: Any) -> None:
    digits, augment = load_test("digits", 50), Augment(crop=1, flip=True, mix=mix)

    def make(rank: int, world: int, replays: int = 1) -> Batches:
        return Batches(
            digits,
            batch_size=16,
            seed=7,
            augment=augment,
            device=torch.device("cpu"),
            rank=rank,
            world=world,
            replays=replays,
            classes=10,
        )

    whole = list(make(0, 1).run(0, 6))
    quarters = [list(make(rank, 4).run(0, 6)) for rank in range(4)]
    for step, (x, y) in enumerate(whole):
        assert torch.equal(x, torch.cat([quarter[step][0] for quarter in quarters]))
        assert torch.equal(y, torch.cat([quarter[step][1] for quarter in quarters]))
        assert y.shape == (16, 10)
        torch.testing.assert_close(y.sum(1), torch.ones(16))
        assert x.min() >= 0
        assert x.max() <= 1
    (later,) = make(0, 1).run(4, 5)
    assert torch.equal(later[0], whole[4][0])
    assert torch.equal(make(0, 2).whole(4)["images"], whole[4][0])
    assert torch.equal(make(0, 2).whole(4)["labels"], whole[4][1])
    replayed = list(make(0, 1, replays=2).run(0, 3))
    assert torch.equal(replayed[0][0], replayed[1][0])
    assert torch.equal(replayed[2][0], whole[1][0])
    plain = next(
        Batches(
            digits, batch_size=16, seed=7, augment=Augment(crop=1, flip=True), device=torch.device("cpu")
        ).run(4, 5)
    )
    assert not torch.equal(plain[0], later[0])
    assert torch.equal(later[1].gather(1, plain[1][:, None]) > 0, torch.ones(16, 1, dtype=torch.bool))


X = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
SOFT = torch.tensor([[0.7, 0.3], [0.0, 1.0], [0.4, 0.6]], dtype=torch.float64)


def cross_entropy(logits: Tensor, smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), SOFT.tolist(), strict=True):
        norm = math.log(sum(math.exp(z) for z in row))
        smooth = [(1 - smoothing) * p + smoothing / 2 for p in label]
        total -= sum(p * (z - norm) for p, z in zip(smooth, row, strict=True))
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("method", "parts"), [(Standard(), [X]), (Pgd(), [X + 100]), (Paired("separate"), [X, X + 100])]
)
def test_the_loss_of_mixed_labels_is_that_of_the_formula(
    method: Method, parts: list[Tensor], smoothing: float
) -> None:
    bench = Scripted()
    bench.smoothing = smoothing
    found = answered(method, bench, X, SOFT)
    expected = sum(cross_entropy(logits_of(x), smoothing) for x in parts) / len(parts)
    assert found["loss"].item() == pytest.approx(expected, rel=1e-12)
    right = [int(z[1] > z[0]) == int(p[1] > p[0]) for z, p in zip(logits_of(X), SOFT, strict=True)]
    if "clean_accuracy" in found:
        assert found["clean_accuracy"].item() == pytest.approx(sum(right) / 3)


def steps(y: Tensor, method: Method, **attack: Any) -> list[dict[str, Tensor]]:
    """Losses and gradients of one step on a small routed network."""
    model = convert(network(), norm="saauxbn").train()
    bench, (x, _) = bench_for(model, 6, **attack), images()
    with bench.at(0):
        losses = method.losses(cast(Any, bench), x, y)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return [{name: value.detach() for name, value in losses.items()}, gradients]


@pytest.mark.parametrize("name", MIXES)
def test_every_method_takes_a_whole_label_as_a_mixture(name: str) -> None:
    method = cast(Method, METHODS[name](**METHOD_OPTIONS.get(name, {})))
    _, y = images()
    hard, soft = (steps(labels, method) for labels in (y, torch.eye(3)[y]))
    torch.testing.assert_close(soft, hard, rtol=1e-4, atol=1e-5)


def test_the_attack_maximises_the_loss_of_the_mixture() -> None:
    model, (x, y) = network().eval(), images()
    soft = 0.6 * torch.eye(3)[y] + 0.4 * torch.eye(3)[(y + 1) % 3]
    bench = bench_for(model, 6, steps=1, start="none", step_size=0.06)
    leaf = x.clone().requires_grad_()
    (-(soft * model(leaf).log_softmax(1)).sum()).backward()
    assert leaf.grad is not None
    by_hand = (x + 0.06 * leaf.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(bench.attack(x, soft), by_hand)
    assert not torch.allclose(bench.attack(x, y), by_hand)
    torch.testing.assert_close(bench.gradient(x, soft), leaf.grad)


def test_trades_attacks_its_divergence_whatever_the_labels() -> None:
    _, y = images()
    soft = 0.6 * torch.eye(3)[y] + 0.4 * torch.eye(3)[(y + 1) % 3]
    (hard, _), (mixed, _) = steps(y, Trades()), steps(soft, Trades())
    assert torch.equal(hard["kl"], mixed["kl"])
    assert not torch.equal(hard["loss"], mixed["loss"])


@pytest.mark.parametrize(("method", "mix"), [("paired", "cutmix"), ("free", "mixup")])
def test_a_run_resumes_to_the_bit(tmp_path: Path, method: str, mix: str) -> None:
    config = {
        **of_method(method),
        "augment": {"crop": 1, "mix": mix},
        "label_smoothing": 0.1 if method == "paired" else 0.0,
    }
    train({**config, "out": str(tmp_path / "whole")})
    die({**config, "out": str(tmp_path / "cut")}, 5)
    train({**config, "out": str(tmp_path / "cut")}, resume=True)
    same(tmp_path / "cut", tmp_path / "whole")


def test_what_needs_one_label_is_refused() -> None:
    assert set(METHODS) - set(MIXES) == {"mart", "mart-awp", "advprop"}
    for method in ("mart", "mart-awp", "advprop"):
        with pytest.raises(
            ConfigError, match=r"augment.mix is not for this method; .*: .*standard, pgd, .*oat"
        ):
            load(TrainConfig, {"method": method, "augment": {"mix": "cutmix"}})
    with pytest.raises(
        ConfigError, match=r"augment.mix .* attack.loss margin needs single ones; allowed: ce"
    ):
        load(TrainConfig, {"attack": {"loss": "margin"}, "augment": {"mix": "cutmix"}})
    assert load(TrainConfig, overrides=["augment.mix=none"]).augment.mix == "none"
