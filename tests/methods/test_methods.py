"""Training methods against values worked out by hand, loops in float64; which parameters they reach."""

from typing import cast

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from robustsabn.conversion.convert import convert
from robustsabn.layers.presets import PRESETS
from robustsabn.routing import route
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.methods import METHODS, Bench, Method, Paired, Pgd, Standard
from tests.helpers.methods import Scripted, answered, bench_for, cross_entropy, images, logits_of, network

X = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
Y = torch.tensor([0, 1, 1])


def test_standard_is_the_cross_entropy_of_clean_images_through_the_clean_route() -> None:
    bench = Scripted()
    losses = answered(Standard(), bench, X, Y)
    assert bench.asked == ["clean"]
    assert losses["loss"].item() == pytest.approx(cross_entropy(logits_of(X), Y), rel=1e-12)
    assert losses["clean_accuracy"].item() == pytest.approx(1 / 3)


def test_pgd_is_the_cross_entropy_of_adversarial_images_through_the_adversarial_route() -> None:
    bench = Scripted()
    losses = answered(Pgd(), bench, X, Y)
    assert bench.asked == ["attack", "adv"]
    assert losses["loss"].item() == pytest.approx(cross_entropy(logits_of(X + 100), Y), rel=1e-12)


@pytest.mark.parametrize("forward", ["split", "separate"])
def test_paired_is_the_mean_of_both(forward: str) -> None:
    bench = Scripted()
    method = Paired("split" if forward == "split" else "separate")
    losses = answered(method, bench, X, Y)
    expected = {"split": ["Split(clean=3, adv=3)"], "separate": ["clean", "adv"]}
    assert bench.asked == ["attack", *expected[forward]]
    by_hand = (cross_entropy(logits_of(X), Y) + cross_entropy(logits_of(X + 100), Y)) / 2
    assert losses["loss"].item() == pytest.approx(by_hand, rel=1e-12)
    assert losses["loss"].item() == pytest.approx((losses["clean_loss"] + losses["adv_loss"]).item() / 2)


def test_split_and_separate_forwards_agree_where_routes_have_their_own_statistics() -> None:
    x, y = images()
    found = []
    for forward in ("split", "separate"):
        model = convert(network(), norm="saauxbn")
        model.train()
        losses = Paired(cast("object", forward)).losses(bench_for(model, 6), x, y)  # type: ignore[arg-type]
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        grads = {name: p.grad for name, p in model.named_parameters()}
        found.append((losses, grads, dict(model.named_buffers())))
    (losses, grads, buffers), (losses2, grads2, buffers2) = found
    torch.testing.assert_close(losses, losses2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grads, grads2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(buffers, buffers2, rtol=1e-5, atol=1e-6)


ROUTED = ("advprop", "fast-advprop", "oat")  # without routes they refuse
CASES = [(m, n) for m in METHODS for n in ("none", *PRESETS) if not (n == "none" and m in ROUTED)]


@pytest.mark.parametrize(("method", "norm"), CASES)
def test_every_parameter_gets_a_gradient(method: str, norm: str) -> None:
    # a parameter without one would stop training on several processes
    x, y = images()
    model = network() if norm == "none" else convert(network(), norm=norm)
    model.train()
    objective = cast(Method, METHODS[method]())
    bench = bench_for(model, 6)
    with bench.at(10):  # past the warm-up epochs
        objective.losses(cast(Bench, bench), x, y)["loss"].backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("bn_mode", ["eval", "train", "frozen"])
def test_the_attack_goes_through_the_adversarial_route_alone(bn_mode: str) -> None:
    x, y = images()
    model = convert(network(), norm="auxbn").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x_adv = bench_for(model, 6, bn_mode=bn_mode).attack(x, y)
    assert ((x_adv - x).abs() <= 0.06 + 1e-6).all()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (
        {"1.running_mean", "1.running_var", "1.num_batches_tracked"} if bn_mode == "train" else set()
    )
    assert torch.equal(model.get_buffer("1.running_mean")[0], before["1.running_mean"][0])
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_the_attack_raises_the_loss_of_its_route() -> None:
    x, y = images()
    model = convert(network(), norm="saauxbn").eval()
    bench = bench_for(model, 6)
    x_adv = bench.attack(x, y)
    with torch.no_grad(), route(model, "adv"):
        clean, attacked = (nn.functional.cross_entropy(model(v), y) for v in (x, x_adv))
    assert attacked > clean


def test_noise_of_a_share_is_the_share_of_the_noise() -> None:
    x, _ = images()
    model = network()
    whole = bench_for(model, 6).noise(x)
    acc = Accelerator(cpu=True)
    config = Attack(eps=0.06, steps=2)
    parts = [
        AdversarialStep(acc, model, model, config, seed=0, batch_size=6, share=share).noise(x[share])
        for share in (slice(0, 3), slice(3, 6))
    ]
    assert torch.equal(torch.cat(parts), whole)
