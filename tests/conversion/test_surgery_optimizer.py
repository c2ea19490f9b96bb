"""What conversion does to an optimizer made before it: groups, names and state follow."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import convert
from robustsabn.layers import PRESETS
from tests.helpers.randomise import randomise, small, through


def parts(model: nn.Module) -> list[dict[str, Any]]:
    """Two param groups, norms and the rest, as for weight decay."""
    norms = [p for name, p in model.named_parameters() if p.ndim == 1 and not name.startswith("0.")]
    rest = [p for name, p in model.named_parameters() if name.startswith("0.")]
    return [{"params": rest, "lr": 0.1}, {"params": norms, "lr": 0.2}]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, routed: bool = True) -> None:
    optimizer.zero_grad()
    x = torch.randn(6, 3, 5, 5)
    out = through(model, torch.tensor([0, 1, 0, 1, 0, 1]), x) if routed else model(x)
    (out * torch.randn_like(out)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("norm", PRESETS)
def test_an_optimizer_made_before_steps_every_parameter_after(norm: str) -> None:
    model = small()
    optimizer = torch.optim.SGD(parts(model), momentum=0.9)
    groups = optimizer.param_groups
    convert(model, norm, optimizer=optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(model, optimizer)
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert optimizer.param_groups is groups
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))


def test_param_groups_keep_their_order() -> None:
    model = small()
    optimizer = torch.optim.SGD(parts(model))
    convert(model, "sabn", optimizer=optimizer)
    named = {p: name for name, p in model.named_parameters()}
    assert [[named[p] for p in group["params"]] for group in optimizer.param_groups] == [
        ["0.weight", "0.bias"],
        [f"{i}.{name}" for i in (1, 2) for name in ("weight", "route_weight", "bias", "route_bias")],
    ]
    model = small()
    optimizer = torch.optim.SGD(parts(model))
    convert(model, "auxbn", optimizer=optimizer)
    named = {p: name for name, p in model.named_parameters()}
    assert [named[p] for p in optimizer.param_groups[1]["params"]] == [
        "1.route_weight",
        "1.route_bias",
        "2.route_weight",
        "2.route_bias",
    ]


def test_names_in_param_groups_follow() -> None:
    model = small()
    optimizer = torch.optim.SGD(list(model.named_parameters()))
    convert(model, "saauxbn", optimizer=optimizer)
    own = dict(model.named_parameters())
    group = optimizer.param_groups[0]
    assert len(group["param_names"]) == len(own)
    for name, parameter in zip(group["param_names"], group["params"], strict=True):
        assert own[name] is parameter


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adafactor])
@pytest.mark.parametrize("norm", PRESETS)
def test_optimizer_state_follows(norm: str, make: Any) -> None:
    model = small()
    options: dict[str, Any] = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make(parts(model), **options)
    step(model, optimizer, routed=False)
    kept = dict(optimizer.state)
    old = model.get_parameter("1.weight")
    convert(model, norm, optimizer=optimizer)
    held = {p for group in optimizer.param_groups for p in group["params"]}
    assert optimizer.state.keys() <= held
    if PRESETS[norm].affine == "independent":
        table = dict(model.named_parameters())["1.route_weight"]
        assert (table in optimizer.state) == (make is not torch.optim.Adafactor)
        for key, value in optimizer.state.get(table, {}).items():
            rows = value.chunk(2) if value.ndim else value.expand(2)
            assert torch.equal(rows[0], kept[old][key])
            assert torch.equal(rows[1], kept[old][key])
    else:
        assert optimizer.state[old] is kept[old]
    step(model, optimizer)


def test_momentum_of_a_replaced_affine_goes_on_as_before() -> None:
    """All samples through one route: the routed model with its old optimizer trains like the plain one."""
    plain = randomise(small())
    twin = copy.deepcopy(plain)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (plain, twin)]

    def one(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, routed: bool) -> None:
        torch.manual_seed(seed)
        x = torch.randn(6, 3, 5, 5)
        optimizer.zero_grad()
        out = through(model, 1, x) if routed else model(x)
        (out * torch.randn_like(out)).sum().backward()
        optimizer.step()

    for model, optimizer in zip((plain, twin), optimizers, strict=True):
        one(model, optimizer, 1, False)
    convert(twin, "auxbn", optimizer=optimizers[1])
    one(plain, optimizers[0], 2, False)
    one(twin, optimizers[1], 2, True)
    torch.testing.assert_close(
        dict(twin.named_parameters())["1.route_weight"][4:], plain.get_parameter("1.weight")
    )
    torch.testing.assert_close(twin.get_parameter("0.weight"), plain.get_parameter("0.weight"))


def test_an_affine_that_another_module_holds_too_stays_in_the_optimizer() -> None:
    model = small()
    model.register_parameter("scale", model.get_parameter("1.weight"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    convert(model, "auxbn", optimizer=optimizer)
    assert any(p is model.scale for p in optimizer.param_groups[0]["params"])
