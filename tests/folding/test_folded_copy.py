"""Folded copies: the same function as the model, refused where that is not sure, and the model as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn import Blend, Split, convert, route
from robustsabn.attacks.folding.folded_copy import folded
from robustsabn.layers import PRESETS
from robustsabn.models import build
from tests.helpers.randomise import randomise


class Net(nn.Module):
    """Convolution, norm, head, with a forward of choice in between."""

    calls: Tensor

    def __init__(self, between: Callable[[Net, Tensor], Tensor] = lambda net, h: h) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.register_buffer("calls", torch.zeros(()))
        self.count = 0
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.head(self.between(self, F.relu(self.bn(self.conv(x)))).mean((2, 3)))
        return h


class Residual(nn.Module):
    """Values that are read twice, sums and ReLUs in many forms, one convolution called twice, one tied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.tied = (nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 6))
        self.tied.weight = self.again.weight
        self.bn1, self.bn2, self.bn3, self.bn4 = (nn.BatchNorm2d(6) for _ in range(4))
        self.relu, self.drop, self.head = nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        h = self.relu(self.bn1(first)) + first
        h = self.bn2(self.again(h)) + self.bn2(self.again(F.relu(h)))
        h = h * 1.5
        h += self.bn3(self.tied(self.drop(first)))
        kept = self.tied(h)
        h = F.relu(torch.add(kept, h)) * self.bn4(kept + 1)
        logits: Tensor = self.head((h + kept.sum((2, 3), keepdim=True)).mean((2, 3)))
        return logits


def gradient(model: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return found


def assert_same(model: nn.Module, other: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(other(x), model(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(other, x), gradient(model, x), rtol=1e-3, atol=1e-5)


def is_free_of_norms(model: nn.Module | None) -> bool:
    return isinstance(model, fx.GraphModule) and not any(isinstance(m, _BatchNorm) for m in model.modules())


@pytest.mark.parametrize("name", ["resnet18", "resnet-small", "resnet-digits"])
def test_named_networks(name: str) -> None:
    channels = 1 if name == "resnet-digits" else 3
    model = randomise(build(name, 10, channels)).eval()
    x = torch.rand(4, channels, 16, 16)
    found, why = folded(model, x)
    assert is_free_of_norms(found)
    assert not why
    assert found is not None
    assert_same(model, found, x)
    assert_same(model, found, torch.rand(7, channels, 16, 16))
    assert not any(p.requires_grad for p in found.parameters())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "residual": (Residual, (3, 6, 6), True),
    "no bias, groups, stride": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, 2, groups=2, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 3)
        ),
        (4, 6, 6),
        True,
    ),
    "no affine, no running statistics": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8, affine=False),
            nn.Conv2d(8, 8, 3),
            nn.BatchNorm2d(8, track_running_stats=False),
            nn.Flatten(),
            nn.Linear(32, 3),
        ),
        (3, 6, 6),
        False,
    ),
    "tabular": (
        lambda: nn.Sequential(
            nn.BatchNorm1d(7), nn.Linear(7, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
        ),
        (7,),
        True,
    ),
    "channels are not the last dimension": (
        lambda: nn.Sequential(nn.Linear(7, 7), nn.BatchNorm1d(7), nn.Flatten(), nn.Linear(49, 3)),
        (7, 7),
        True,
    ),
    "signals": (
        lambda: nn.Sequential(nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.Flatten(), nn.Linear(36, 3)),
        (2, 8),
        True,
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.Flatten(), nn.Linear(48, 3)),
        (2, 4, 4, 4),
        True,
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 3)
        ),
        (2, 4, 4),
        True,
    ),
    "no norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)),
        (2, 4, 4),
        True,
    ),
    "view": (lambda: Net(lambda _, h: h.view(h.shape[0], 8, 4, -1)), (3, 4, 4), True),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_arrangement(name: str, dtype: torch.dtype) -> None:
    make, shape, all_go = NETWORKS[name]
    model = randomise(make()).to(dtype).eval()
    x = torch.rand(6, *shape, dtype=dtype)
    found, why = folded(model, x)
    assert found is not None, why
    assert is_free_of_norms(found) == all_go
    assert_same(model, found, x)


@pytest.mark.parametrize("selection", ["clean", "adv", Blend(clean=0.3, adv=0.7)])
@pytest.mark.parametrize("norm", PRESETS)
def test_route_in_force(norm: str, selection: Any) -> None:
    model = randomise(convert(build("resnet-digits", 10, 1), norm)).eval()
    x = torch.rand(4, 1, 8, 8)
    with route(model, selection):
        found, why = folded(model, x)
        expected = model(x)
    assert found is not None, why
    assert is_free_of_norms(found)
    torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("selection", [Split(clean=2, adv=2), torch.tensor([0, 1, 1, 0])])
def test_routes_that_differ_between_images(selection: Any) -> None:
    model = convert(build("resnet-digits", 10, 1), "saauxbn").eval()
    with route(model, selection):
        found, why = folded(model, torch.rand(4, 1, 8, 8))
    assert found is None
    assert "differently" in why


def counted(net: Net, h: Tensor) -> Tensor:
    net.count += 1
    return h


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "function": (lambda: Net().eval().__call__, "nn.Module"),
    "wrapped": (lambda: nn.DataParallel(Net()), "inside"),
    "compiled": (lambda: torch.compile(Net(), backend="eager"), "inside"),
    "half precision": (lambda: Net().bfloat16(), "float32"),
    "noise": (lambda: Net(lambda _, h: h + 0.1 * torch.randn_like(h)), "random"),
    "noise without effect": (lambda: Net(lambda _, h: h + 0 * torch.rand(())), "random"),
    "Python's random": (lambda: Net(lambda _, h: h * random.choice([1, 1])), "random"),
    "NumPy's random": (lambda: Net(lambda _, h: h * (1 + np.random.rand())), "random"),
    "buffer": (lambda: Net(lambda net, h: h + 0 * net.calls.add_(1)), "changes"),
    "attribute": (lambda: Net(counted), "changes"),
    "no gradient": (lambda: Net(lambda _, h: h.detach()), "fails"),
    "wrong channels": (lambda: nn.Conv2d(5, 3, 3), "fails"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, word = REFUSED[name]
    found, why = folded(make(), torch.rand(2, 3, 4, 4))
    assert found is None
    assert word in why


@pytest.mark.parametrize("register", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_are_refused(register: str) -> None:
    model = Net().eval()
    getattr(model.conv, f"register_{register}_hook")(lambda *_: None)
    found, why = folded(model, torch.rand(2, 3, 4, 4))
    assert found is None
    assert why == "Conv2d conv has hooks"


def test_parametrisations_are_refused() -> None:
    model = Net().eval()
    torch.nn.utils.parametrizations.weight_norm(model.conv)
    found, why = folded(model, torch.rand(2, 3, 4, 4))
    assert found is None
    assert "parametrised" in why


class Rounded(torch.autograd.Function):
    """Rounding with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


rounded: Callable[[Tensor], Tensor] = Rounded.apply


def without_gradient(net: Net, h: Tensor) -> Tensor:
    with torch.no_grad():
        gate = h.sigmoid()
    return h * gate


def in_half(net: Net, h: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = net.conv(h[:, :3]) @ h.mT
    return out.float()


def by_value(net: Net, h: Tensor) -> Tensor:
    return h if h.sum() > 0 else 2 * h


@pytest.mark.parametrize("between", [without_gradient, by_value, lambda _, h: rounded(h)])
def test_copied_but_not_rewritten(between: Callable[[Net, Tensor], Tensor]) -> None:
    model = randomise(Net(between)).eval()
    x = torch.rand(4, 3, 6, 6)
    found, why = folded(model, x)
    assert found is not None
    assert not isinstance(found, fx.GraphModule)
    assert why.startswith("not rewritten")
    assert_same(model, found, x)


def test_half_precision_inside_is_not_copied() -> None:
    """Whether a copy agrees would hang on how the processor rounds."""
    found, why = folded(randomise(Net(in_half)).eval(), torch.rand(4, 3, 6, 6))
    assert found is None
    assert "autocast" in why


def test_model_and_generators_stay_as_they_were() -> None:
    model = Net()
    randomise(model)
    model.bn.eval()
    model.conv.weight.requires_grad_(False)
    x = torch.rand(4, 3, 6, 6, requires_grad=True)
    state = copy.deepcopy(model.state_dict())
    before = [(m.training, p.requires_grad, p.data_ptr()) for m in model.modules() for p in m.parameters()]
    generators = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    found, _ = folded(model, x)
    assert found is not None
    assert before == [
        (m.training, p.requires_grad, p.data_ptr()) for m in model.modules() for p in m.parameters()
    ]
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1:] == (random.getstate(), repr(np.random.get_state()))
    assert x.grad is None
    with torch.no_grad():
        for value in (*found.parameters(), *found.buffers()):
            value.add_(1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(p.grad is None for p in model.parameters())


def test_under_inference_mode() -> None:
    model, x = Net().eval(), torch.rand(4, 3, 6, 6)
    with torch.inference_mode():
        found, why = folded(model, x)
    assert found is not None, why
    assert_same(model, found, x)


def test_layout() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 256, 3), nn.Conv2d(256, 256, 3, padding=1), nn.Flatten(), nn.Linear(2304, 3)
    )
    x = torch.rand(2, 3, 5, 5)
    found, _ = folded(model, x)
    assert isinstance(found, fx.GraphModule)
    of_few, of_many = (found.get_parameter(f"{name}.weight") for name in "01")
    assert of_few.is_contiguous(memory_format=torch.channels_last)
    assert of_many.is_contiguous()
    assert "contiguous" in [node.target for node in found.graph.nodes]
    assert_same(model.eval(), found, x)


@pytest.mark.parametrize("name", ["resnet-small", "resnet-digits"])
def test_rows_do_not_depend_on_the_batch(name: str) -> None:
    channels = 1 if name == "resnet-digits" else 3
    model = randomise(build(name, 10, channels)).eval()
    x = torch.rand(96, channels, 16, 16)
    found, _ = folded(model, x[:16])
    assert found is not None
    with torch.no_grad():
        parts = torch.cat([found(part) for part in torch.split(x, 16)])
        for rows in (16, 32, 48, 64, 96):
            assert torch.equal(found(x[:rows]), parts[:rows])
    slopes = torch.cat([gradient(found, part) for part in torch.split(x, 16)])
    assert torch.equal(gradient(found, x), slopes)
