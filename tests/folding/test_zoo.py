"""Architectures of torchvision and timm, folded: equal logits and input gradients; how much is rewritten."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.attacks.folding.folded_copy import folded
from tests.helpers.conversion.zoo import ZOO, build, wake
from tests.helpers.randomise import randomise

UNTRACEABLE = {"timm:mobilevit_xxs"}
QUICK = {
    "torchvision:resnet18",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x0_5",
    "timm:efficientnet_lite0",
    "timm:mobilevit_xxs",
}
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ZOO]


def gradients(model: torch.nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return found.double().flatten(1)


@pytest.mark.parametrize("name", NAMES)
def test_folded(name: str) -> None:
    model = build(name)
    with torch.no_grad():
        wake(model)
    randomise(model)
    x, others = torch.rand(2, 4, 3, ZOO[name][0], ZOO[name][0])
    found, why = folded(model, x)
    assert found is not None, why
    assert isinstance(found, fx.GraphModule) == (name not in UNTRACEABLE), why
    if name not in UNTRACEABLE:
        assert not any(isinstance(module, _BatchNorm) for module in found.modules())
    expected, size = model(others).detach(), model(others).detach().abs().max().item()
    torch.testing.assert_close(found(others), expected, rtol=0, atol=1e-4 * size)
    slopes, expected_slopes = gradients(found, others), gradients(model, others)
    # a maximum at a tie may take the other of two pixels: one image of four may differ a little
    apart = (slopes - expected_slopes).norm(dim=1) / expected_slopes.norm(dim=1)
    assert apart.sort().values[2] <= 1e-3
    assert apart.max() <= 0.1
