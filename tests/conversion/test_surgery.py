"""What replacing modules must not lose: aliases, flags, types, devices, ties, hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import convert
from robustsabn.layers import PRESETS, RoutedBatchNorm2d, RoutedNorm
from tests.helpers.randomise import Parent, through


def test_one_layer_under_two_parents_stays_one_layer() -> None:
    norm = nn.BatchNorm2d(3)
    model = convert(nn.Sequential(Parent(norm), Parent(norm)))
    assert isinstance(model.get_submodule("0.norm"), RoutedBatchNorm2d)
    assert model.get_submodule("0.norm") is model.get_submodule("1.norm")


def test_one_layer_under_two_names_of_one_parent_stays_one_layer() -> None:
    norm = nn.BatchNorm2d(3)
    model = convert(nn.Sequential(norm, nn.ReLU(), norm))
    assert isinstance(model[0], RoutedBatchNorm2d)  # type: ignore[index]
    assert model[0] is model[2]  # type: ignore[index]


def test_the_root_is_returned_when_it_is_the_layer() -> None:
    assert isinstance(convert(nn.BatchNorm2d(3)), RoutedBatchNorm2d)


def test_empty_slots_stay_empty() -> None:
    parent = Parent(nn.BatchNorm2d(3))
    parent.register_module("downsample", None)
    assert convert(parent)._modules["downsample"] is None


def test_training_flags_are_kept_per_layer() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    model[1].eval()
    assert [layer.training for layer in convert(model).children()] == [True, False]


@pytest.mark.parametrize("norm", PRESETS)
def test_requires_grad_is_kept_per_parameter(norm: str) -> None:
    plain = nn.BatchNorm2d(3)
    plain.bias.requires_grad_(False)
    for name, parameter in convert(plain, norm).named_parameters():
        assert parameter.requires_grad == (not name.endswith("bias")), name


@pytest.mark.parametrize("norm", PRESETS)
def test_dtypes_are_kept_per_tensor(norm: str) -> None:
    plain = nn.BatchNorm2d(3).double()
    plain.weight.data, plain.bias.data = plain.weight.data.bfloat16(), plain.bias.data.bfloat16()
    tensors = convert(plain, norm).state_dict()
    for name, tensor in tensors.items():
        expected = torch.float64 if name.startswith("running") else torch.bfloat16
        assert tensor.dtype == (torch.long if name == "num_batches_tracked" else expected), name


@pytest.mark.parametrize("norm", PRESETS)
def test_the_device_is_kept(norm: str) -> None:
    model = convert(nn.Sequential(nn.BatchNorm2d(3, device="meta"), nn.BatchNorm2d(3)), norm)
    for name, tensor in model.state_dict().items():
        assert tensor.device.type == ("meta" if name.startswith("0") else "cpu"), name


@pytest.mark.parametrize("norm", ["bn", "sabn", "saauxbn"])
def test_the_plain_parameters_survive_as_shared_affine(norm: str) -> None:
    plain = nn.BatchNorm2d(3)
    parameters = dict(convert(plain, norm).named_parameters())
    assert parameters["weight"] is plain.weight
    assert parameters["bias"] is plain.bias


def test_batch_norm_without_bias() -> None:
    plain = nn.BatchNorm2d(3)
    plain.register_parameter("bias", None)
    for norm in PRESETS:
        names = {name for name, _ in convert(copy.deepcopy(plain), norm).named_parameters()}
        assert names in ({"weight"}, {"route_weight"}, {"weight", "route_weight"})


@pytest.mark.parametrize("norm", PRESETS)
def test_tied_parameters_stay_tied(norm: str) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    model[1].weight = model[0].weight
    first, second = (layer._parameters for layer in convert(model, norm).children())
    for name in ("weight", "route_weight"):
        assert first[name] is second[name]
    assert PRESETS[norm].affine == "independent" or first["bias"] is not second["bias"]
    assert PRESETS[norm].affine == "shared" or first["route_bias"] is not second["route_bias"]


def test_other_attributes_of_the_layer_can_still_be_read() -> None:
    plain = nn.LayerNorm(4)
    plain.tag = "kept"  # type: ignore[assignment]
    routed = convert(plain, "sabn")
    assert routed.normalized_shape == (4,)
    assert routed.tag == "kept"


def test_filter_chooses_by_module_and_by_every_name() -> None:
    norm = nn.BatchNorm2d(3)
    model = nn.ModuleDict({"a": Parent(norm), "b": Parent(norm), "c": Parent(nn.BatchNorm2d(3))})
    convert(model, filter_fn=lambda module, name: name == "b.norm")
    assert model.get_submodule("a.norm") is model.get_submodule("b.norm")
    assert isinstance(model.get_submodule("a.norm"), RoutedNorm)
    assert type(model.get_submodule("c.norm")) is nn.BatchNorm2d


def test_frozen_batch_norm_is_left_alone() -> None:
    class FrozenBatchNorm2d(nn.Module):
        pass

    model = convert(nn.Sequential(FrozenBatchNorm2d(), nn.BatchNorm2d(3)))
    assert isinstance(model[0], FrozenBatchNorm2d)  # type: ignore[index]


# hooks


def test_hooks_of_every_sort_move_and_their_handles_still_remove_them() -> None:
    calls: list[str] = []

    def called(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: calls.append(name)

    plain: Any = nn.BatchNorm2d(3)
    handles = [
        plain.register_forward_pre_hook(called("pre")),
        plain.register_forward_hook(called("forward")),
        plain.register_forward_hook(called("keywords"), with_kwargs=True),
        plain.register_full_backward_pre_hook(called("backward pre")),
        plain.register_full_backward_hook(called("backward")),
        plain.register_state_dict_pre_hook(called("state pre")),
        plain.register_state_dict_post_hook(called("state")),
        plain.register_load_state_dict_pre_hook(called("load pre")),
        plain.register_load_state_dict_post_hook(called("load")),
    ]
    model = convert(nn.Sequential(plain))
    del plain

    def run() -> list[str]:
        calls.clear()
        torch.autograd.backward(through(model, "adv", torch.randn(4, 3, 2, 2, requires_grad=True)).sum())
        model.load_state_dict(model.state_dict())
        return calls

    assert run() == [
        "pre",
        "forward",
        "keywords",
        "backward pre",
        "backward",
        "state pre",
        "state",
        "load pre",
        "load",
    ]
    for handle in handles:
        handle.remove()
    assert run() == []


def test_hooks_that_take_their_module_get_the_new_one() -> None:
    seen: list[object] = []
    plain: Any = nn.BatchNorm2d(3)
    plain.register_forward_hook(lambda module, args, out: seen.append(module))
    plain.register_load_state_dict_pre_hook(lambda module, *args: seen.append(module))
    model = convert(nn.Sequential(plain))
    del plain
    through(model, "adv", torch.randn(4, 3, 2, 2))
    model.load_state_dict(model.state_dict())
    assert seen == [model[0], model[0]]  # type: ignore[index]
