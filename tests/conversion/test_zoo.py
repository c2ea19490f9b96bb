"""Architectures of torchvision and timm: converted, routed, baked, and loaded into a fresh plain network."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import bake, convert
from robustsabn.conversion.plain_norms import KINDS
from robustsabn.layers import PRESETS, RoutedNorm
from tests.helpers.conversion.zoo import ZOO, build, wake
from tests.helpers.randomise import randomise, through


@pytest.mark.filterwarnings("ignore::robustsabn.errors.PlainNormWarning")
@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_converted_baked_and_loaded(name: str) -> None:
    norm = list(PRESETS)[1 + list(ZOO).index(name) % 4]
    fresh = build(name)
    model = randomise(copy.deepcopy(fresh), 0.1)
    wake(model)
    x: Tensor = torch.rand(2, 3, ZOO[name][0], ZOO[name][0])
    expected = model(x)
    assert convert(model, norm) is model
    for selection in ("clean", "adv"):
        torch.testing.assert_close(through(model, selection, x), expected, rtol=0, atol=1e-6)
    randomise(model, 0.1)
    clean, adv = through(model, "clean", x), through(model, "adv", x)
    assert not torch.allclose(clean, adv)
    baked = bake(model, "adv")
    assert not any(isinstance(module, RoutedNorm) for module in baked.modules())
    assert [type(module) for module in fresh.modules()] == [type(module) for module in baked.modules()]
    fresh.load_state_dict(baked.state_dict(), strict=True)
    torch.testing.assert_close(fresh(x), adv, rtol=0, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_known_class(name: str, training: bool) -> None:
    module, _, cls = name.rpartition(".")
    make = getattr(importlib.import_module(module), cls)
    channels_last = "LayerNorm" in cls and not cls.startswith("LayerNorm2d") and not cls.endswith("Act2d")
    args: tuple[Any, ...] = (2, 6) if name == "torch.nn.modules.normalization.GroupNorm" else (6,)
    options: dict[str, Any] = (
        {"num_groups": 3} if cls in ("GroupNorm", "GroupNormAct") and len(args) == 1 else {}
    )
    options |= {"affine": True} if "Instance" in cls else {}
    plain = randomise(make(*args, **options)).train(training)
    if cls.endswith(("Act", "Act2d")):
        plain.drop, plain.act = nn.Dropout(0.5), nn.PReLU(num_parameters=6 if not channels_last else 1)
    shape = {"1d": (4, 6, 3), "3d": (4, 6, 2, 3, 3)}.get(cls[-2:], (4, 6, 3, 3))
    x = torch.randn(shape[:1] + shape[2:] + shape[1:2] if channels_last else shape)
    torch.manual_seed(1)
    expected = copy.deepcopy(plain)(x)
    assert name.startswith("torch.") or not torch.equal(expected, x)
    keys = list(plain.state_dict())
    for selection in ("clean", "adv"):
        torch.manual_seed(1)
        routed = convert(copy.deepcopy(plain))
        assert torch.equal(through(routed, selection, x), expected)
        baked = bake(routed, selection)
        assert type(baked) is make
        assert list(baked.state_dict()) == keys
