"""Ordinary logits that happen to lie in [0, 1] are not called probabilities, and real probabilities are."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustsabn.attacks import APGD, PGD, AutoAttack, ProbabilitiesWarning, Square, ThreatModel
from robustsabn.attacks.model.graphs import unbounded
from robustsabn.attacks.model.inputs import ZeroGradientWarning
from robustsabn.attacks.model.outputs import looks_like
from robustsabn.trainers.adversarial.step.first_batch import try_network

THREAT = ThreatModel("Linf", 0.01)


def linear(count: int, classes: int, scale: float, seed: int, *after: nn.Module) -> tuple[nn.Module, Tensor]:
    """Images, and a linear model whose outputs for them, shifted by one number per class, lie in [0, 1]."""
    source = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 4, 4, generator=source)
    layer = nn.Linear(48, classes)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(classes, 48, generator=source))
        layer.bias.zero_()
        z = layer(x.flatten(1))
        layer.weight.div_((z.amax(0) - z.amin(0)).amax().clamp_min(1))
        z = layer(x.flatten(1))
        room = 1 - (z.amax(0) - z.amin(0))
        layer.bias.copy_(room.clamp_min(0) * torch.rand(classes, generator=source) - z.amin(0))
    return nn.Sequential(nn.Flatten(), layer, *after).eval(), x


@settings(max_examples=60, deadline=None)
@given(
    count=st.sampled_from([1, 2, 8, 40]),
    classes=st.sampled_from([2, 3, 10]),
    scale=st.sampled_from([0.0, 1e-3, 0.1, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_linear_models_whose_logits_lie_in_the_unit_interval(
    count: int, classes: int, scale: float, seed: int
) -> None:
    model, x = linear(count, classes, scale, seed)
    y = model(x).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroGradientWarning)
        PGD(THREAT, steps=1, start="none", keep="last")(model, x, y)
        APGD(THREAT, steps=1)(model, x, y)
    assert try_network(model, x, classes) == []


def test_some_of_them_would_be_taken_for_probabilities_by_their_values_alone() -> None:
    kinds = [int(looks_like(model(x), x.dtype)) for model, x in (linear(40, 3, 1.0, i) for i in range(20))]
    assert 2 in kinds
    assert 1 not in kinds


class Mean(nn.Module):
    """The mean of two."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList([one, other])

    def forward(self, x: Tensor) -> Any:
        return torch.stack([part(x) for part in self.parts]).mean(0)


class Inference(nn.Module):
    """A sigmoid by way of NumPy, which autograd knows nothing of."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.inner(x.detach()).detach().numpy())


class Spread(nn.Module):
    """Logits with the mean 0 and the standard deviation 8 in their batch of images."""

    def forward(self, z: Tensor) -> Tensor:
        return 8 * (z - z.mean()) / z.std()


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(1), nn.Hardsigmoid()])
@pytest.mark.parametrize("count", [8, 40])
@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: Mean(m, m), Inference], ids=["alone", "mean", "numpy"]
)
def test_probabilities_are_said_however_they_come_about(last: nn.Module, count: int, wrap: Any) -> None:
    model, x = linear(count, 3, 1.0, 5, Spread(), last)
    model = wrap(model).eval()
    y = model(x).argmax(1)
    (note,) = try_network(model, x, 3)
    assert "[0, 1]" in note
    if not isinstance(model, Inference):
        with pytest.warns(ProbabilitiesWarning):
            PGD(THREAT, steps=1, start="none", keep="last")(model, x, y)
    attack = AutoAttack(THREAT, version="custom", attacks=[Square(THREAT, steps=1)])
    names = [flag.name for flag in attack(model, x, y).flags]
    assert {"sigmoid", "softmax"} & set(names)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("count", [1, 8, 100])
def test_constant_outputs_say_nothing(value: float, count: int) -> None:
    assert not looks_like(torch.full((count, 4), value), torch.float32)
    assert not looks_like(torch.eye(4)[:1].expand(count, 4), torch.float32)


def test_sums_of_coarse_numbers_that_are_1_by_accident_say_nothing() -> None:
    z = torch.tensor([[0.502, 0.5]])
    assert not looks_like(z.bfloat16().float(), torch.bfloat16)
    assert looks_like(z.repeat(4, 1).bfloat16().float(), torch.bfloat16) == 1


def test_what_autograd_tells() -> None:
    x, w = torch.rand(4, 6, requires_grad=True), torch.rand(6, 3)
    assert unbounded(x @ w)
    assert unbounded((x @ w).relu()[:, 1:] * 2 + 1)
    assert unbounded(nn.Conv2d(1, 2, 2)(x.view(4, 1, 2, 3)).mean((2, 3)))
    for bounded in (
        x,
        x * 2,
        (x @ w).sigmoid(),
        (x @ w) * x[:, :3].sigmoid(),
        (x @ w).clamp(0, 1),
        (x @ w).detach(),
    ):
        assert not unbounded(bounded)
