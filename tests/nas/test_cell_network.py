"""The network of a cell: its costs counted, its operations written out, and what takes it as any network."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn import bake, convert, route
from robustsabn.conversion.export import export
from robustsabn.errors import ModelError
from robustsabn.models import build
from robustsabn.models.nas import CellNetwork, nas_bench_201
from robustsabn.nas import EDGES, OPERATIONS, Cell, all_cells, costs
from robustsabn.nas.costs import Reduction

SMALL: dict[str, Any] = {"channels": 4, "cells": 1}


def counted(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """Multiply-accumulates of the forward, counted where they happen, and parameters."""
    total = 0

    def count(layer: nn.Module, _: Any, y: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            inputs = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            total += y[0].numel() * (inputs + (layer.bias is not None))
        elif isinstance(layer, nn.Linear):
            total += y[0].numel() * (layer.in_features + 1)

    hooks = [layer.register_forward_hook(count) for layer in model.modules()]
    model(x)
    for hook in hooks:
        hook.remove()
    return total, sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("reduction", ["resnet", "pool"])
@pytest.mark.parametrize(
    ("classes", "size", "in_channels", "channels", "cells"), [(10, 32, 3, 16, 5), (7, 13, 1, 8, 2)]
)
def test_costs_are_those_of_the_network(
    classes: int, size: int, in_channels: int, channels: int, cells: int, reduction: Reduction
) -> None:
    for cell in [Cell((3,) * 6), *random.Random(0).sample(all_cells(), 4)]:
        options: dict[str, Any] = {"channels": channels, "cells": cells, "reduction": reduction}
        with torch.device("meta"):
            network = nas_bench_201(classes, in_channels, cell=cell, **options)
            found = counted(network, torch.rand(2, in_channels, size, size))
        assert found == costs(cell, classes, size, in_channels, **options)


def test_costs_follow_the_formulas() -> None:
    for cell in all_cells():
        n1, n3 = (cell.operations.count(OPERATIONS.index(f"nor_conv_{k}x{k}")) for k in (1, 3))
        found = costs(cell)
        assert found.flops == 7_783_050 + 35_389_440 * n3 + 3_932_160 * n1
        assert found.parameters == 73_306 + 243_040 * n3 + 28_000 * n1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels is 0; give a whole number of at least 1"),
        ({"cells": 1.5}, "cells is 1.5"),
        ({"reduction": "max"}, "reduction is 'max'; allowed: resnet, pool"),
    ],
)
@pytest.mark.parametrize(
    "of", [lambda cell, **o: costs(cell, **o), lambda cell, **o: build("nas-bench-201", 10, cell=cell, **o)]
)
def test_options_out_of_range(of: Callable[..., object], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        of(Cell((1,) * 6), **options)


def test_a_network_needs_its_cell() -> None:
    with pytest.raises(ModelError, match=r"needs the option cell, an architecture string such as \|nor"):
        build("nas-bench-201", 10)
    with pytest.raises(ModelError, match="unknown operation 'conv'"):
        build("nas-bench-201", 10, cell="|conv~0|+|conv~0|conv~1|+|conv~0|conv~1|conv~2|")


def written_out(network: CellNetwork, cell: Cell, x: Tensor) -> Tensor:
    """The logits in eval mode, by the description of the benchmark, with one cell a stage."""
    state = network.state_dict()

    def norm(h: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{key}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(h, mean, var, weight, bias)

    def conv(h: Tensor, key: str, stride: int = 1) -> Tensor:
        weight = state[f"{key}.1.weight"]
        return norm(F.conv2d(h.clamp(min=0), weight, None, stride, weight.shape[-1] // 2), f"{key}.2")

    def operation(h: Tensor, index: int, key: str) -> Tensor:
        match OPERATIONS[index]:
            case "none":
                return torch.zeros_like(h)
            case "skip_connect":
                return h
            case "avg_pool_3x3":
                inside = F.avg_pool2d(torch.ones_like(h), 3, 1, 1)
                return F.avg_pool2d(h, 3, 1, 1) / inside
        return conv(h, key)

    h = norm(F.conv2d((x - 0.5) / 0.5, state["conv1.weight"], padding=1), "bn1")
    for place in range(5):
        key = f"layers.{place}"
        if place % 2 == 0:
            nodes = [h, *torch.zeros(3, *h.shape, dtype=h.dtype)]
            for i, (target, source) in enumerate(EDGES):
                nodes[target] = nodes[target] + operation(
                    nodes[source], cell.operations[i], f"{key}.edges.{i}"
                )
            h = nodes[3]
        else:
            skip = F.conv2d(F.avg_pool2d(h, 2), state[f"{key}.shortcut.1.weight"])
            h = conv(conv(h, f"{key}.conv_a", 2), f"{key}.conv_b") + skip
    h = norm(h, "bn").clamp(min=0).mean((2, 3))
    logits: Tensor = h @ state["linear.weight"].T + state["linear.bias"]
    return logits


@pytest.mark.parametrize("number", [0, 1, 194, 4711, 12345, 15624])
def test_the_network_is_the_one_described(number: int) -> None:
    cell = all_cells()[number]
    network = nas_bench_201(10, 1, cell=cell, **SMALL).double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not name.startswith("normal"):
            tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_()
    x = torch.rand(2, 1, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), written_out(network, cell, x), rtol=1e-9, atol=1e-9)


def test_every_parameter_has_a_gradient_even_where_the_output_does_not_depend_on_it() -> None:
    """As processes that average their gradients need it."""
    cell = Cell.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|none~2|")
    network = nas_bench_201(10, 1, cell=cell, **SMALL)
    torch.autograd.backward(F.cross_entropy(network(torch.rand(4, 1, 8, 8)), torch.arange(4)))
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("reduction", ["resnet", "pool"])
def test_convert_bake_and_export(tmp_path: Path, reduction: Reduction) -> None:
    """Of a cell with every operation; the plain networks compute what the routes do."""
    cell = Cell.parse(
        "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|skip_connect~2|"
    )
    plain = build("nas-bench-201", 10, 1, cell=str(cell), reduction=reduction, **SMALL)
    x = torch.rand(4, 1, 8, 8)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    routed = convert(plain, norm="saauxbn", routes=("clean", "adv"))
    with route(routed, "adv"):
        routed(x)  # moves running statistics
        routed.eval()
        expected = routed(x)
    baked = bake(routed, "adv")
    assert sum(isinstance(m, nn.BatchNorm2d) for m in baked.modules()) == norms
    torch.testing.assert_close(baked(x), expected, rtol=1e-5, atol=1e-5)
    for name in ("net.safetensors", "net.pt2"):
        assert export(baked, tmp_path / name, baked, x) < 1e-4
