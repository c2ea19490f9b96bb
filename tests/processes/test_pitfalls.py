"""What goes wrong unseen when adversarial training meets processes, half precision and memory formats."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn import Split, convert, route
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.config import Cosine
from robustsabn.trainers.loop.averages import Ema
from robustsabn.trainers.loop.draws import epoch_order
from robustsabn.trainers.loop.updates import learning_rate
from robustsabn.trainers.methods import METHODS
from robustsabn.trainers.processes.distributed import accelerator
from tests.helpers.methods import images
from tests.helpers.pitfalls_worker import OPTIONS, RUN, steps, watch
from tests.helpers.processes import apart

NAMES = tuple(METHODS)
Seen = list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What each of two processes saw."""
    place = tmp_path_factory.mktemp("pitfalls")
    code, output = apart(watch, place, place=place, processes=2)
    assert code == 0, output[-5000:]
    return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def equal(a: object, b: object) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_whole_batch_on_every_process(seen: Seen, name: str) -> None:
    one = steps(Accelerator(cpu=True), name, sync=True)
    mine, other = (process["methods"][name] for process in seen)
    equal(mine["trace"], other["trace"])
    torch.testing.assert_close(mine["trace"], one["trace"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_processes_do_not_communicate_to_attack(seen: Seen, name: str) -> None:
    for process in seen:
        assert process["methods"][name]["said"]["attack"] == 0
        assert process["methods"][name]["said"]["backward"] > 0


def test_compiled_processes_train_as_plain_ones(seen: Seen) -> None:
    for process in seen:
        plain, compiled = process["own"]["pgd-awp"], process["compiled"]
        torch.testing.assert_close(compiled["trace"], plain["trace"], rtol=1e-5, atol=1e-6)
        assert compiled["said"] == plain["said"]


@pytest.mark.parametrize("name", ["trades", "pgd-awp", "fast-advprop"])
def test_own_statistics_of_several_forwards_and_one_backward(seen: Seen, name: str) -> None:
    mine, other = (process["own"][name] for process in seen)
    last = [found["trace"][-1] for found in (mine, other)]
    for key, value in mine["end"].items():
        if "running" in key:
            assert not torch.equal(last[0][key], last[1][key]), key
            torch.testing.assert_close(value, (last[0][key] + last[1][key]) / 2)
        else:  # weights never drift
            equal([state[key] for state in mine["trace"]], [state[key] for state in other["trace"]])
    equal(mine["end"], other["end"])
    # one all-reduce per step and the two for DDP's buckets, whatever the attack and the forwards are
    assert mine["said"]["backward"] <= 3 + 2


def test_running_statistics_go_on_from_those_of_the_same_process(seen: Seen) -> None:
    x, _ = images(8)
    for rank, process in enumerate(seen):
        before, after = process["own"]["trades"]["trace"][:2]
        values = F.conv2d(x.chunk(2)[rank], before["0.weight"], before["0.bias"], padding=1)
        expected = 0.9 * before["1.running_mean"][0] + 0.1 * values.mean((0, 2, 3))
        torch.testing.assert_close(after["1.running_mean"][0], expected)


def test_statistics_are_equal_when_they_are_validated_and_saved(seen: Seen) -> None:
    mine, other = (process["whole"] for process in seen)
    assert len(mine["validated"]) == 2
    equal(mine["validated"], other["validated"])
    equal(mine["averaged"], other["averaged"])
    name = "1.running_mean"
    assert any(
        not torch.equal(a[name], b[name]) for a, b in zip(mine["states"], other["states"], strict=True)
    )


def test_the_learning_rate_moves_once_a_step(seen: Seen) -> None:
    expected = [learning_rate(Cosine(), 0.1, step, 8) for step in range(8)]
    for process in seen:
        assert process["whole"]["rates"] == expected


def test_each_epoch_has_its_own_order_also_after_a_resume_at_its_boundary(seen: Seen) -> None:
    epochs = [epoch_order(RUN["images"], 0, epoch) for epoch in (0, 1)]
    batches = [batch for order in epochs for batch in torch.split(order, RUN["batch_size"])]
    assert not torch.equal(*epochs)
    for rank, process in enumerate(seen):
        expected = [batch.chunk(2)[rank] for batch in batches]
        equal(process["whole"]["places"], expected)
        before, after = process["cut"]
        equal(before["places"] + after["places"], expected)
        assert len(before["places"]) == 4
        equal(before["states"] + after["states"], process["whole"]["states"])


def test_half_precision_holds_in_attack_and_training_to_the_end_of_the_run(seen: Seen) -> None:
    for process in seen:
        types = process["bf16"]["types"]
        for step in range(8):
            found = {(phase, dtype) for at, phase, dtype in types if at == step and phase != "validate"}
            assert found == {("attack", "torch.bfloat16"), ("forward", "torch.bfloat16")}, step
        assert {dtype for _, phase, dtype in types if phase == "validate"} == {"torch.float32"}
        assert {at for at, phase, _ in types if phase == "validate"} == {4, 8}


def test_weights_do_not_drift_under_perturbation_in_half_precision(seen: Seen) -> None:
    mine, other = (process["bf16"]["states"] for process in seen)
    for a, b in zip(mine, other, strict=True):
        equal(*({k: v for k, v in found.items() if "running" not in k} for found in (a, b)))


def test_autocast_sees_averaged_weights() -> None:
    acc = accelerator(cpu=True, precision="bf16")
    try:
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        ema, x = Ema(model, 0.9), torch.rand(4, 1, 4, 4)
        with torch.no_grad():
            model.get_parameter("1.weight").mul_(3)
        bench = AdversarialStep(acc, model, model, Attack(), seed=0, batch_size=4, share=slice(0, 4))
        before = bench.forward(x, 0)
        with ema.in_place():
            swapped = bench.forward(x, 0)
            fresh = model.bfloat16()(x.bfloat16()).float()
    finally:
        accelerator(cpu=True)
    equal(swapped, fresh)
    assert not torch.allclose(swapped, before, atol=0.1)


def residual() -> nn.Module:
    """Layers whose gradients were wrong in one memory format: padded or adaptive pooling, groups, strides."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            )

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.inner(x)
            return out

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Block(),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_has_the_gradients_of_contiguous(name: str) -> None:
    """In float64, where the order of a sum does not decide which way an attack goes."""
    results = []
    for layout in LAYOUTS:
        model = convert(residual(), norm=("saauxbn")).double().train().to(memory_format=layout)  # type: ignore[call-overload]
        x = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(1)).double()
        x = x.contiguous(memory_format=layout)
        acc, attack = Accelerator(cpu=True), Attack("L2", eps=0.3, steps=2)
        bench = AdversarialStep(
            acc, model, model, attack, seed=0, batch_size=6, share=slice(0, 6), classes=3, fold=True
        )
        with bench.at(0):
            x_adv = bench.attack(x, torch.arange(6) % 3)
            assert x_adv.is_contiguous(memory_format=layout)
            method = METHODS[name](**OPTIONS.get(name, {}))
            losses = method.losses(bench, x, torch.arange(6) % 3)
            losses["loss"].backward()
        grads = {key: p.grad.contiguous() for key, p in model.named_parameters()}
        results.append((x_adv.contiguous(), losses, grads, dict(model.named_buffers())))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


def test_the_kernels_of_both_layouts_are_right_in_float32() -> None:
    """Within the bound of a float32 sum: number of terms times unit roundoff times largest gradient."""

    def gradients(dtype: torch.dtype, layout: torch.memory_format) -> dict[str, Tensor]:
        model = convert(residual(), norm=("saauxbn")).to(dtype).train().to(memory_format=layout)  # type: ignore[call-overload]
        x = torch.rand(12, 3, 9, 9, generator=torch.Generator().manual_seed(1)).to(dtype)
        x = x.contiguous(memory_format=layout).requires_grad_()
        with route(model, Split(clean=6, adv=6)):
            loss = F.cross_entropy(model(x), torch.arange(12) % 3)
        inputs = {"images": x, **dict(model.named_parameters())}
        return dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True))

    exact = gradients(torch.float64, torch.contiguous_format)
    terms, unit_roundoff = 12 * 5 * 5, 2.0**-24  # images and positions of the first feature map
    bound = terms * unit_roundoff * max(float(g.abs().max()) for g in exact.values())
    for layout in LAYOUTS:
        for key, gradient in gradients(torch.float32, layout).items():
            assert (gradient - exact[key]).abs().max() <= bound, (layout, key)
