"""Tools that find norm layers by class or affines by rank treat routed layers as what they are."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from robustsabn import Split, _torchvision, convert, route
from robustsabn.errors import ConversionError
from robustsabn.layers import PRESETS, RoutedBatchNorm
from robustsabn.trainers.checkpoints.files import optimizer_tensors, restore_optimizer
from robustsabn.trainers.loop.averages import Ema
from tests.helpers.randomise import randomise, small, through

SYNCHRONISE: Any = nn.SyncBatchNorm.convert_sync_batchnorm
ROUTED = ("ccbn", "sabn", "auxbn", "saauxbn")


def layers(model: nn.Module) -> list[RoutedBatchNorm]:
    return [layer for layer in model.modules() if isinstance(layer, RoutedBatchNorm)]


@pytest.mark.parametrize(
    "plain",
    [
        *(nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4)),
        *(nn.InstanceNorm1d(4, affine=True), nn.InstanceNorm2d(4, affine=True)),
    ],
)
def test_routed_layers_are_instances_of_the_class_they_were(plain: nn.Module) -> None:
    routed = convert(copy.deepcopy(plain), "saauxbn")
    assert isinstance(routed, type(plain))
    for name in ("num_features", "normalized_shape", "num_groups", "num_channels", "eps", "momentum"):
        assert getattr(routed, name, None) == getattr(plain, name, None)


# update_bn


@pytest.mark.parametrize("norm", PRESETS)
@pytest.mark.parametrize("selection", ["clean", "adv", None])
def test_update_bn_estimates_the_statistics_of_the_selected_route(norm: str, selection: str | None) -> None:
    if selection is None and not convert(small(), norm)[1].has_shared_affine:  # type: ignore[index]
        return
    plain = small()
    batches = [torch.rand(8, 3, 5, 5) + shift for shift in range(3)]
    averaged = AveragedModel(convert(copy.deepcopy(plain), norm))
    before = copy.deepcopy(averaged.state_dict())
    with route(averaged, selection):
        update_bn(batches, averaged)
    update_bn(batches, plain)
    for ours, theirs in zip(layers(averaged), (plain[1], plain[2]), strict=True):
        assert ours.momentum == 0.1
        if ours.statistics == "shared" or selection is not None:
            mean, var = ours._running(1 if selection == "adv" else 0)
            torch.testing.assert_close(mean, theirs.running_mean)
            torch.testing.assert_close(var, theirs.running_var)
    if norm in ("auxbn", "saauxbn"):  # the other route keeps its own
        others = {"clean": [1], "adv": [0], None: [0, 1]}[selection]
        for name, value in averaged.state_dict().items():
            assert "running" not in name or torch.equal(value[others], before[name][others])


def test_update_bn_under_a_split_estimates_both() -> None:
    averaged = AveragedModel(convert(small()))
    with route(averaged, Split(clean=2, adv=6)):
        update_bn([torch.rand(8, 3, 5, 5) + 3 for _ in range(2)], averaged)
    for layer in layers(averaged):
        assert layer.get_buffer("num_batches_tracked").tolist() == [2, 2]


# freezing


@pytest.mark.parametrize("norm", ROUTED)
def test_freezing_by_class_freezes_modes_and_route_tables(norm: str) -> None:
    model = convert(small(), norm).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad = False
    before = copy.deepcopy(model.state_dict())
    for name in ("clean", "adv"):
        through(model, name, torch.rand(4, 3, 5, 5)).sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["0.weight", "0.bias"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("norm", ROUTED)
def test_frozen_layers_that_tools_make_stay_routed_and_frozen(norm: str) -> None:
    _torchvision.load()
    model = pytest.importorskip("timm.utils.model")
    plain = randomise(small())
    routed = randomise(convert(plain, norm)).eval()
    x = torch.rand(4, 3, 5, 5)
    expected = [through(routed, name, x) for name in ("clean", "adv")]
    frozen = model.freeze_batch_norm_2d(routed).train()
    for name, value in zip(("clean", "adv"), expected, strict=True):
        torch.testing.assert_close(through(frozen, name, x), value)
    assert [name for name, p in frozen.named_parameters() if p.requires_grad] == ["0.weight", "0.bias"]


@pytest.mark.parametrize("norm", ROUTED)
def test_layers_are_synchronised_and_keep_their_routes(norm: str) -> None:
    model = randomise(convert(small(), norm))
    x = torch.rand(4, 3, 5, 5)
    expected = [through(copy.deepcopy(model), name, x) for name in ("clean", "adv")]
    synchronised = SYNCHRONISE(model)
    assert [layer.sync for layer in layers(synchronised)] == [True, True]
    for name, value in zip(("clean", "adv"), expected, strict=True):
        torch.testing.assert_close(through(copy.deepcopy(synchronised), name, x), value)


@pytest.mark.parametrize("norm", PRESETS)
def test_a_norm_that_is_the_whole_model_is_not_replaced(norm: str) -> None:
    layer = convert(nn.BatchNorm2d(3), norm)
    with pytest.raises(ConversionError, match=r"routes would be lost; set layer\.sync = True"):
        SYNCHRONISE(layer)
    assert list(layer.named_children()) == []


def test_a_process_group_and_other_rebuilt_layers_are_refused() -> None:
    with pytest.raises(ConversionError, match="would lose its routes"):
        SYNCHRONISE(convert(small()), process_group=object())

    model: Any = convert(small())
    renorm = nn.BatchNorm2d(4)
    renorm.running_mean = model[1].running_mean
    with pytest.raises(ConversionError, match=r"give the tool bake\(model, route\)"):
        model[1] = renorm
    model[1] = nn.BatchNorm2d(4)  # a new layer of the user's own
    assert type(model[1]) is nn.BatchNorm2d


def test_hooks_momentum_and_statistics_set_by_class_hold() -> None:
    seen: list[nn.Module] = []
    model = convert(small(), "sabn")
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_hook(lambda m, args, out: seen.append(m))
            module.momentum = 1.0
    x = torch.rand(4, 3, 5, 5)
    through(model, "adv", x)
    torch.testing.assert_close(layers(model)[0].running_mean, model[0](x).mean((0, 2, 3)))  # type: ignore[index]
    assert seen == layers(model)


# affines by rank


def decayed_by_timm(model: nn.Module) -> set[Tensor]:
    _torchvision.load()
    optim = pytest.importorskip("timm.optim")
    groups = optim.param_groups_weight_decay(model, 0.05)
    return {p for group in groups if group["weight_decay"] for p in group["params"]}


@pytest.mark.parametrize("norm", ROUTED)
def test_tools_that_spare_vectors_spare_route_tables(norm: str) -> None:
    layer = nn.LayerNorm([2, 3])
    model = convert(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), layer), norm
    )
    matrices = {p for p in model.parameters() if p.dim() >= 2}
    kept = {p for p in layer.parameters() if p.ndim > 1}  # torch's own shape
    assert matrices == {p for p in model.parameters() if len(p.shape) != 1}
    for found in (matrices, decayed_by_timm(model)):
        names = {name for name, p in model.named_parameters() if p in found}
        assert not any("route" in name for name in names)
        assert "0.weight" in names
    assert not kept & decayed_by_timm(convert(small(), norm))


def test_torchvision_groups_route_tables_with_the_norms() -> None:
    split = _torchvision.load("torchvision.ops._utils").split_normalization_params
    norms, others = split(convert(small(), "saauxbn"))
    assert sorted(p.numel() for p in others) == [4, 108]
    assert len(norms) == 8


@pytest.mark.parametrize("norm", ROUTED)
def test_tables_have_one_row_a_route_in_state_dicts_and_attributes(norm: str) -> None:
    model = randomise(convert(nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm([2, 3])), norm, routes=3))
    state = model.state_dict()
    for place, shape in (("0", (4,)), ("1", (2, 3))):
        for name in ("route_weight", "route_bias"):
            rows: Any = getattr(model.get_submodule(place), name)
            assert rows.shape == state[f"{place}.{name}"].shape == (3, *shape)
            assert torch.equal(rows, state[f"{place}.{name}"])
            flat = dict(model.named_parameters())[f"{place}.{name}"]
            assert flat.shape == (rows.numel(),)
            with torch.no_grad():
                rows[1] *= 3
            assert torch.equal(flat.view_as(rows), rows)
    fresh = convert(nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm([2, 3])), norm, routes=3)
    fresh.load_state_dict(state, assign=True)
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())
    wrong = convert(nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm([2, 3])), norm)
    with pytest.raises(RuntimeError, match=r"0\.route_weight: \(3, 4\) given, \(2, 4\) here"):
        wrong.load_state_dict(state)


def test_runs_begun_with_two_dimensional_tables_go_on() -> None:
    model = convert(small())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for name in ("clean", "adv"):
        through(model, name, torch.rand(4, 3, 5, 5)).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    now = optimizer_tensors(optimizer)
    params = list(model.parameters())
    names = [name for name, _ in model.named_parameters()]

    def once(name: str, value: Tensor) -> Tensor:
        return value.view(2, -1) if "route_" in name else value

    before = {key: once(names[int(key.partition(".")[0])], value) for key, value in now.items()}
    assert any(value.shape == (2, 4) for value in before.values())
    other = torch.optim.SGD(params, 0.1, momentum=0.9)
    restore_optimizer(other, before)
    assert all(torch.equal(value, now[key]) for key, value in optimizer_tensors(other).items())
    ema = Ema(model, 0.5)
    values = {name: once(name, value) + 1 for name, value in ema.values.items()}
    ema.load(values)
    assert all(torch.equal(once(name, value), values[name]) for name, value in ema.values.items())
