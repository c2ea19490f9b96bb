"""Adversarial weight perturbation against plain Python on a linear network in float64, and its reversal."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from robustsabn.conversion.convert import convert
from robustsabn.errors import ConfigError
from robustsabn.trainers import train
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.adversarial.step.weight_perturbation import layer_weights
from robustsabn.trainers.methods import MartAwp, PairedAwp, Pgd, PgdAwp, TradesAwp
from tests.helpers.methods import LINEAR, X, Y, bench_for, images, linear, log_softmax, mean, network, pixels

Row = list[float]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def frobenius(rows: list[Row]) -> float:
    return math.sqrt(sum(v * v for row in rows for v in row))


@pytest.mark.parametrize("gamma", [0.01, 0.3])
def test_the_loss_is_taken_where_the_weights_went(gamma: float) -> None:
    model = linear()
    bench = bench_for(model, 3)
    x_adv = pixels(bench.attack(X, Y))
    gradient = [[0.0] * 4 for _ in range(3)]
    for x, y in zip(x_adv, Y.tolist(), strict=True):
        off = [math.exp(v) - (k == y) for k, v in enumerate(log_softmax(x))]
        for k in range(3):
            for i in range(4):
                gradient[k][i] += off[k] * x[i] / 3
    scale = gamma * frobenius(LINEAR[0]) / frobenius(gradient)
    there = [
        [w + scale * g for w, g in zip(*rows, strict=True)] for rows in zip(LINEAR[0], gradient, strict=True)
    ]
    with bench.at(0):
        losses = PgdAwp(gamma=gamma).losses(bench, X, Y)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(model.get_parameter("1.weight").tolist(), there, rtol=1e-12, atol=0)
        assert model.get_parameter("1.bias").tolist() == LINEAR[1]
    assert model.get_parameter("1.weight").tolist() == LINEAR[0]
    expected = mean([-log_softmax(x, there)[y] for x, y in zip(x_adv, Y.tolist(), strict=True)])
    assert losses["loss"].item() == pytest.approx(expected, rel=1e-12)
    plain = Pgd().losses(bench, X, Y)["loss"].item()
    assert losses["loss"].item() > plain
    # the gradient is that of the moved weights
    grad = model.get_parameter("1.weight").grad
    assert grad is not None
    by_hand = sum(
        (math.exp(log_softmax(x, there)[0]) - (y == 0)) * x[0] / 3
        for x, y in zip(x_adv, Y.tolist(), strict=True)
    )
    assert grad[0, 0].item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("norm", ["none", "bn", "saauxbn"])
@pytest.mark.parametrize(
    "method", [PgdAwp(), TradesAwp(warmup_epochs=0), MartAwp(warmup_epochs=0), PairedAwp()]
)
def test_weights_of_layers_alone_move_and_come_back_to_the_bit(method: PgdAwp, norm: str) -> None:
    x, y = images()
    model = network() if norm == "none" else convert(network(), norm=norm)
    model.train()
    before = state(model)
    bench = bench_for(model, 6)
    with bench.at(0):
        losses = method.losses(bench, x, y)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        moved = {name for name in changed(model, before) if "running" not in name and "batches" not in name}
        assert moved == {"0.weight", "4.weight"}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert changed(model, before) == statistics
    both = {"none": (TradesAwp, MartAwp, PairedAwp), "bn": (TradesAwp, MartAwp), "saauxbn": ()}
    forwards = 2 if isinstance(method, both[norm]) else 1
    assert (model.get_buffer("1.num_batches_tracked") - before["1.num_batches_tracked"]).max() == forwards


def test_weights_come_back_when_a_step_fails() -> None:
    x, y = images()
    model = network().train()
    before, bench = state(model), bench_for(model, 6)

    def step() -> None:
        with bench.at(0):
            PgdAwp(gamma=0.5).losses(bench, x, y)
            assert changed(model, before) >= {"0.weight", "4.weight"}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step()
    assert not changed(model, before) & {"0.weight", "4.weight"}


def test_warm_up_epochs_are_those_of_the_method_inside() -> None:
    x, y = images()
    model = network().train()
    bench = AdversarialStep(
        Accelerator(cpu=True),
        model,
        model,
        Attack(eps=0.1, steps=2),
        seed=0,
        batch_size=6,
        share=slice(0, 6),
        per_epoch=4,
    )
    for step, moves in ((0, False), (7, False), (8, True)):
        before = state(model)
        with bench.at(step):
            PgdAwp(warmup_epochs=2).losses(bench, x, y)
            assert ("0.weight" in changed(model, before)) == moves


def test_layers_whose_gradient_is_zero_stay() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare, self.blocked = nn.Linear(16, 3), nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            z: Tensor = self.used(x) + 0 * self.blocked(x)
            return z

    x, y = images()
    model = Half()
    before, bench = state(model), bench_for(model, 6)
    with bench.at(0):
        PgdAwp().losses(bench, x, y)
        assert changed(model, before) == {"used.weight"}
    assert changed(model, before) == set()


def test_what_counts_as_a_layer() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict(
        {
            "conv": nn.ConvTranspose1d(2, 2, 3),
            "shared": shared,
            "again": shared,
            "attention": nn.MultiheadAttention(4, 2),
            "split": nn.MultiheadAttention(4, 2, kdim=6, vdim=6),
            "frozen": nn.Linear(2, 2).requires_grad_(False),
            "embedding": nn.Embedding(3, 4),
            "norm": nn.LayerNorm([2, 4]),
            "affine": convert(nn.Sequential(nn.BatchNorm2d(2))),
            "slope": nn.PReLU(3),
        }
    )
    names = {id(p): name for name, p in model.named_parameters()}
    assert [names[id(w)] for w in layer_weights(model)] == [
        "conv.weight",
        "shared.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "split.q_proj_weight",
        "split.k_proj_weight",
        "split.v_proj_weight",
        "split.out_proj.weight",
    ]


def test_autocast_sees_the_moved_weights() -> None:
    # inside one autocast block the casts of the first forward would be reused, and no weight would seem to
    # change
    x, y = images()
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        acc = Accelerator(cpu=True, mixed_precision="bf16")
        model = network().train()
        bench = AdversarialStep(
            acc, model, model, Attack(eps=0.1, steps=2), seed=0, batch_size=6, share=slice(0, 6)
        )
        x_adv = bench.attack(x, y)
        with bench.at(0):
            loss = PgdAwp(gamma=0.5).losses(bench, x, y)["loss"]
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                there = F.cross_entropy(model(x_adv).float(), y)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            here = F.cross_entropy(model(x_adv).float(), y)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert loss.item() == there.item()
    assert loss > here + 0.05


@pytest.mark.parametrize(("key", "value"), [("gamma", 0.0), ("warmup_epochs", -1), ("beta", -1.0)])
def test_values_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        TradesAwp(**{key: value})  # type: ignore[arg-type]


def test_weights_that_are_computed_are_refused() -> None:
    x, y = images()
    model = network()
    weight_norm(model.get_submodule("4"))
    bench = bench_for(model, 6)
    with bench.at(0), pytest.raises(ConfigError, match=r"the weights of 4 are computed .* without awp"):
        PgdAwp().losses(bench, x, y)
    weight_norm(model.get_submodule("0"))
    with pytest.raises(ConfigError, match="the weights of 0, 4 are computed"):
        layer_weights(model)
    frozen = network()
    spectral_norm(frozen.get_submodule("4")).requires_grad_(False)
    assert [w.shape for w in layer_weights(frozen)] == [(4, 1, 3, 3)]
    with pytest.raises(ConfigError, match="trains no weights of convolutions"):
        layer_weights(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16)))


def test_they_are_refused_before_the_warm_up(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom torch.nn.utils.parametrizations import weight_norm\ndef "
        "make(num_classes):\n    return nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, "
        "num_classes)))\n"
    )
    config = {"model": f"{tmp_path}/net.py:make", "norm": "none", "method": "trades-awp", "device": "cpu"}
    with pytest.raises(ConfigError, match="the weights of 1 are computed"):
        train({**config, "out": str(tmp_path / "run")})
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
