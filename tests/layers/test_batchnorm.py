"""Every preset and selection against the float64 reference: outputs, gradients, running statistics."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from robustsabn import RoutedBatchNorm1d, RoutedBatchNorm2d, RoutedBatchNorm3d, Split, route
from robustsabn.layers import PRESETS, RoutedBatchNorm
from robustsabn.routing import Selection
from tests.helpers.layer_reference import batch_norm64, make, running64

MIXED = [0, 1, 1, 0, 1, 0]
SELECTIONS: dict[str, tuple[Selection, list[int]]] = {
    "name": ("adv", [1] * 6),
    "index": (0, [0] * 6),
    "per-sample": (torch.tensor(MIXED), MIXED),
    "split": (Split(clean=2, adv=4), [0, 0, 1, 1, 1, 1]),
    "split reversed": (Split(adv=5, clean=1), [1, 1, 1, 1, 1, 0]),
    "split empty part": (Split(clean=0, adv=6), [1] * 6),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_output_gradients_and_statistics(
    preset: str, selection: str, training: bool, channels_last: bool
) -> None:
    layer = make(preset).train(training)
    chosen, routes = SELECTIONS[selection]
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64) * 2 + 1
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    x.requires_grad_()
    g = torch.randn_like(x)
    inputs = [x, *layer.parameters()]
    expected = batch_norm64(layer, x, routes, training)
    wanted = torch.autograd.grad(expected, inputs, g, allow_unused=True, materialize_grads=True)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    held = layer.running_mean.clone(), layer.running_var.clone()
    statistics = running64(layer, x.detach(), routes, 0.1) if training else held
    with route(layer, chosen):
        y = layer(x)
    got = torch.autograd.grad(y, inputs, g, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for a, b in zip((layer.running_mean, layer.running_var), statistics, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    if channels_last:
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_float32_and_bfloat16(preset: str, selection: str, training: bool) -> None:
    layer = make(preset, torch.float32).train(training)
    chosen, routes = SELECTIONS[selection]
    x = torch.randn(6, 3, 4, 4)
    with torch.no_grad():
        expected = batch_norm64(copy.deepcopy(layer).double(), x.double(), routes, training)
        before = copy.deepcopy(layer.state_dict())
        with route(layer, chosen):
            single = layer(x)
            layer.load_state_dict(before)
            with torch.autocast("cpu", torch.bfloat16):
                half = layer(x.bfloat16())
    torch.testing.assert_close(single.double(), expected, rtol=2e-5, atol=2e-5)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=0.05, atol=0.1)
    assert layer.running_mean is not None
    assert layer.running_mean.dtype == torch.float32


def test_large_mean_does_not_cancel() -> None:
    layer = make("saauxbn", torch.float32)
    x = torch.randn(6, 3, 8, 8) + 1000
    expected = batch_norm64(copy.deepcopy(layer).double(), x.double(), MIXED, True)
    with torch.no_grad(), route(layer, torch.tensor(MIXED)):
        torch.testing.assert_close(layer(x).double(), expected.detach(), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("selection", ["per-sample", "split"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
def test_gradcheck(preset: str, training: bool, selection: str) -> None:
    layer = (
        make(preset, channels=2, track_running_stats=False) if training else make(preset, channels=2).eval()
    )
    names = [name for name, _ in layer.named_parameters()]

    def f(x: Tensor, *parameters: Tensor) -> Tensor:
        with route(layer, SELECTIONS[selection][0]):
            out: Tensor = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return out

    x = torch.randn(6, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, (x, *(p for _, p in layer.named_parameters())))


@pytest.mark.parametrize("preset", ["sabn", "saauxbn"])
def test_closed_form_gradients_of_the_two_affines(preset: str) -> None:
    """dL/dg_s = sum_i g_i a_i, dL/db_s = sum_i g_i c_i, dL/dg_i = g_s a_i + b_s c_i, dL/db_i = c_i."""
    layer = make(preset)
    weight, bias, table, shifts = (p for _, p in layer.named_parameters())
    rows = table.detach().view(2, 3)
    plain = make("bn" if preset == "sabn" else "auxbn")
    for parameter in plain.parameters():
        torch.nn.init.ones_(parameter)
    for name, parameter in plain.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    x, g = torch.randn(6, 3, 4, 4, dtype=torch.float64), torch.randn(6, 3, 4, 4, dtype=torch.float64)
    with route(layer, torch.tensor(MIXED)), route(plain, torch.tensor(MIXED)):
        xhat = plain(x).detach()
        layer(x).backward(g)
    own = torch.tensor(MIXED)
    a = torch.stack([(g * xhat)[own == r].sum((0, 2, 3)) for r in (0, 1)])
    c = torch.stack([g[own == r].sum((0, 2, 3)) for r in (0, 1)])
    torch.testing.assert_close(table.grad, (weight * a + bias * c).flatten())
    torch.testing.assert_close(shifts.grad, c.flatten())
    torch.testing.assert_close(weight.grad, (rows * a).sum(0))
    torch.testing.assert_close(bias.grad, (rows * c).sum(0))


@pytest.mark.parametrize(
    ("cls", "shape"), [(RoutedBatchNorm1d, ()), (RoutedBatchNorm1d, (5,)), (RoutedBatchNorm3d, (2, 3, 2))]
)
@pytest.mark.parametrize("preset", PRESETS)
def test_other_dimensions(preset: str, cls: type[RoutedBatchNorm], shape: tuple[int, ...]) -> None:
    statistics, affine = PRESETS[preset]
    layer = cls(3, statistics=statistics, affine=affine, dtype=torch.float64)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(6, 3, *shape, dtype=torch.float64)
    for chosen, routes in SELECTIONS.values():
        if not shape and 1 in (routes.count(0), routes.count(1)):  # one value per channel: test_one_value.py
            continue
        with torch.no_grad(), route(layer, chosen):
            expected = batch_norm64(layer, x, routes, True)
            torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_whole_batch_of_one_route_equals_torch(preset: str) -> None:
    """With identity initialisation every route is nn.BatchNorm2d, step for step."""
    statistics, affine = PRESETS[preset]
    layer, plain = RoutedBatchNorm2d(4, statistics=statistics, affine=affine), torch.nn.BatchNorm2d(4)
    for _ in range(3):
        x = torch.randn(5, 4, 3, 3)
        with route(layer, "adv"):
            assert torch.equal(layer(x), plain(x))
    layer.eval()
    plain.eval()
    x = torch.randn(5, 4, 3, 3)
    with route(layer, "adv"):
        assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("selection", ["name", "per-sample", "split"])
@pytest.mark.parametrize("preset", PRESETS)
def test_cumulative_momentum(preset: str, selection: str) -> None:
    """momentum=None averages the batches with equal weights."""
    layer = make(preset, momentum=None)
    chosen, routes = SELECTIONS[selection]
    batches = [torch.randn(6, 3, 4, 4, dtype=torch.float64) for _ in range(3)]
    expected = []
    for x in batches:
        blank = copy.deepcopy(layer)
        assert blank.running_mean is not None
        blank.running_mean.zero_()
        expected.append(running64(blank, x, routes, 1.0)[0])
    with route(layer, chosen):
        for x in batches:
            layer(x)
    assert layer.running_mean is not None
    mean = torch.stack(expected).mean(0)
    seen = sorted(set(routes)) if layer.statistics == "per_route" else ...
    torch.testing.assert_close(layer.running_mean[seen], mean[seen])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_cumulative_momentum_on_a_device(
    preset: str, selection: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off the CPU the weights of the batches stay on the device, and running statistics come out the same."""
    layer = make(preset, momentum=None)
    if weighted:
        assert layer.num_batches_tracked is not None
        layer.shares = torch.zeros_like(layer.num_batches_tracked, dtype=torch.float64)
    twin = copy.deepcopy(layer)
    for _ in range(3):
        x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
        outputs = []
        for each, waits in ((layer, False), (twin, True)):
            monkeypatch.setattr("robustsabn.layers.statistics.waits", lambda tensor, waits=waits: waits)
            with route(each, SELECTIONS[selection][0]):
                outputs.append(each(x))
        torch.testing.assert_close(*outputs)
    torch.testing.assert_close(twin.state_dict(), layer.state_dict())


def test_frozen_statistics() -> None:
    """track_running_stats=False on a layer in train mode: batch statistics, nothing updated."""
    for preset in PRESETS:
        layer = make(preset)
        before = copy.deepcopy(layer.state_dict())
        layer.track_running_stats = False
        for chosen, routes in SELECTIONS.values():
            x = torch.randn(6, 3, 4, 4, dtype=torch.float64)
            with torch.no_grad(), route(layer, chosen):
                torch.testing.assert_close(layer(x), batch_norm64(layer, x, routes, True))
        for name, value in layer.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_saved_activations_are_those_of_batch_norm() -> None:
    """A whole-batch route saves what nn.BatchNorm2d saves; other selections save one activation."""
    x = torch.randn(16, 8, 8, 8, requires_grad=True)

    def saved(forward: torch.nn.Module) -> int:
        kept: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            if t.numel() == x.numel():
                kept[t.data_ptr()] = t.nbytes
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = forward(x)
        del out
        return sum(kept.values())

    assert saved(torch.nn.BatchNorm2d(8)) == x.nbytes
    for preset in PRESETS:
        layer = make(preset, torch.float32, channels=8)
        for selection in (1, torch.arange(16) % 2, Split(clean=7, adv=9)):
            with route(layer, selection):
                assert saved(layer) == x.nbytes, (preset, selection)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_split_keeps_for_the_backward_what_the_kernel_wrote(
    device: str, dtype: torch.dtype, channels_last: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make("saauxbn").to(device=device, dtype=dtype).train(training)
    x = torch.randn(6, 3, 4, 4, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    x.requires_grad_()
    places: list[int] = []
    kernel = torch.native_batch_norm

    def watched(*args: Any, out: tuple[Tensor, ...]) -> Any:
        places.extend(t.data_ptr() for t in out[1:])
        return kernel(*args, out=out)

    with monkeypatch.context() as patch, route(layer, Split(clean=2, adv=4)):
        patch.setattr(torch, "native_batch_norm", watched)
        y = layer(x)
    mean, invstd = cast(Any, y.grad_fn).saved_tensors[2:4]
    assert places == [row.data_ptr() for pair in zip(mean, invstd, strict=True) for row in pair]
    (got,) = torch.autograd.grad(y.float().square().sum(), x)
    twin = copy.deepcopy(layer)
    parts = []
    for name, part in zip(("clean", "adv"), x.split_with_sizes([2, 4]), strict=True):
        with route(twin, name):
            parts.append(twin(part))
    (wanted,) = torch.autograd.grad(torch.cat(parts).float().square().sum(), x)
    torch.testing.assert_close(got, wanted)
