"""Input gradients in float16: of what is too small for it, and of what is too large."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.attacks.model.counted import CountedModel
from robustsabn.attacks.model.logits import Gate, gradient_scale, value_and_gradient
from tests.helpers.methods import bench_for

X = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2
Y = torch.zeros(5, dtype=torch.long)


def network(bias: float, factor: float = 1.0) -> nn.Module:
    """Two logits, linear in the image, the first larger by `bias`; slopes are `factor` * (1/4 to 2)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        weight = torch.arange(1, 9).repeat(2) / 4 * torch.tensor([1.0, -1.0]).repeat_interleave(8)
        model.get_parameter("1.weight").copy_(torch.stack([weight, -weight]) * factor)
        model.get_parameter("1.bias").copy_(torch.tensor([bias, 0.0]))
    return model.eval()


def exact(model: nn.Module) -> Tensor:
    """The gradient of every image's cross-entropy, image by image in float64."""
    weight, bias = (p.detach().double() for p in model.parameters())
    rows = []
    for x in X.double():
        z = weight @ x.flatten() + bias
        rows.append((torch.softmax(z, 0) - torch.tensor([1.0, 0.0])) @ weight)
    return torch.stack(rows).view_as(X)


def losses(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, Y, reduction="none")


@contextmanager
def half(how: str, model: nn.Module) -> Iterator[nn.Module]:
    """The model in float16, by autocast or by its weights."""
    with torch.autocast("cpu", torch.float16, enabled=how == "autocast"):
        yield model if how == "autocast" else model.half()


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_gradients_too_small_for_float16_are_kept(how: str) -> None:
    expected = exact(network(12.0, 1 / 256))
    assert 0 < expected.abs().max() < torch.finfo(torch.float16).smallest_normal / 20
    with half(how, network(12.0, 1 / 256)) as model:
        logits_of, scale = Gate(model, X), gradient_scale(model, X)
        assert (value_and_gradient(logits_of, X, losses)[2] == 0).flatten(1).any(1).all()
        _, values, gradient = value_and_gradient(logits_of, X, losses, scale)
        x_adv = PGD(ThreatModel("Linf", 0.1), steps=1, start="none", keep="last", step_size=0.1)(model, X, Y)
    assert values.max() < 1e-3
    torch.testing.assert_close(gradient.double(), expected, rtol=0.1, atol=0)
    torch.testing.assert_close(x_adv, X + 0.1 * expected.sign().float())


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_gradients_too_large_for_the_scale_keep_their_sign(how: str) -> None:
    expected = exact(network(-200.0, 40.0))
    assert expected.abs().max() > 65504 / 1024
    with half(how, network(-200.0, 40.0)) as model:
        _, _, gradient = value_and_gradient(Gate(model, X), X, losses, gradient_scale(model, X))
    torch.testing.assert_close(
        gradient.double(), expected.clamp(-65504 / 1024, 65504 / 1024), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_so_are_those_of_the_searches_of_autoattack(how: str) -> None:
    expected = exact(network(12.0, 1 / 256))
    with half(how, network(12.0, 1 / 256)) as model:
        gradient, undefined = CountedModel(model).gradient(X, losses)[2:]
        _, rows, _ = CountedModel(model).jacobian(X)
    assert not undefined.any()
    torch.testing.assert_close(gradient.double(), expected, rtol=0.1, atol=0)
    weight = network(12.0, 1 / 256).get_parameter("1.weight").detach()
    torch.testing.assert_close(rows, weight.view(2, 1, 1, 4, 4).expand_as(rows), rtol=1e-3, atol=0)


@pytest.mark.parametrize("create_graph", [False, True])
def test_so_are_those_of_the_bench(create_graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(12.0, 1 / 256)
    bench = bench_for(model, 5)
    monkeypatch.setattr(bench.accelerator, "autocast", lambda: torch.autocast("cpu", torch.float16))
    gradient = bench.gradient(X, Y, create_graph=create_graph)
    torch.testing.assert_close(gradient.detach().double(), exact(model), rtol=0.1, atol=0)
    assert gradient.requires_grad == create_graph
    x_adv = bench.attack(X, Y, steps=1, start="none")
    assert ((x_adv - X).sign() == exact(model).sign()).all()


def test_other_dtypes_are_not_scaled() -> None:
    model = network(12.0, 1 / 256)
    assert gradient_scale(model, X) == gradient_scale(model.bfloat16(), X) == 1
    assert gradient_scale(model.half(), X) == gradient_scale(lambda x: x, X) + 1023
    with torch.autocast("cpu", torch.bfloat16):
        assert gradient_scale(model, X) == 1
