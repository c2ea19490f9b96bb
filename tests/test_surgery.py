"""What replacing modules must not lose, and what is refused before anything is touched."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from randomise import randomise, through
from torch import nn

from robustsabn import convert
from robustsabn.errors import ConversionError
from robustsabn.layers import PRESETS, RoutedBatchNorm2d, RoutedNorm

ROUTED = [norm for norm in PRESETS if norm != "bn"]


class Parent(nn.Module):
    """A block around a norm layer that others may hold as well."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x)
        return out


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
    routed = convert(plain, norm)
    assert routed.weight is plain.weight
    assert routed.bias is plain.bias


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
    first, second = convert(model, norm).children()
    for name in ("weight", "route_weight"):
        assert getattr(first, name) is getattr(second, name)
    assert PRESETS[norm].affine == "independent" or first.bias is not second.bias
    assert PRESETS[norm].affine == "shared" or first.route_bias is not second.route_bias


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


# optimizers


def parts(model: nn.Module) -> list[dict[str, Any]]:
    """Two param groups, norms and the rest, as for weight decay."""
    norms = [p for name, p in model.named_parameters() if p.ndim == 1 and not name.startswith("0.")]
    rest = [p for name, p in model.named_parameters() if name.startswith("0.")]
    return [{"params": rest, "lr": 0.1}, {"params": norms, "lr": 0.2}]


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))


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
        table = model.get_parameter("1.route_weight")
        assert (table in optimizer.state) == (make is not torch.optim.Adafactor)
        for key, value in optimizer.state.get(table, {}).items():
            rows = value if value.ndim == 2 else value.expand(2)
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
    torch.testing.assert_close(twin.get_parameter("1.route_weight")[1], plain.get_parameter("1.weight"))
    torch.testing.assert_close(twin.get_parameter("0.weight"), plain.get_parameter("0.weight"))


def test_an_affine_that_another_module_holds_too_stays_in_the_optimizer() -> None:
    model = small()
    model.register_parameter("scale", model.get_parameter("1.weight"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    convert(model, "auxbn", optimizer=optimizer)
    assert any(p is model.scale for p in optimizer.param_groups[0]["params"])


# refusals: one line, and the model is as it was


class OwnNorm(nn.BatchNorm2d):
    pass


def lazily() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.LazyBatchNorm2d())


def changed(change: Callable[[nn.BatchNorm2d], object]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        norm = nn.BatchNorm2d(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            change(norm)
        return nn.Sequential(nn.BatchNorm2d(3), norm)

    return build


def with_list() -> nn.Module:
    parent = Parent(nn.BatchNorm2d(3))
    parent.layers = [parent.norm]  # type: ignore[assignment]
    return parent


def compiled() -> nn.Module:
    out = torch.compile(small(), backend="eager")
    assert isinstance(out, nn.Module)
    return out


def compiled_in_place() -> nn.Module:
    model = small()
    model.compile(backend="eager")
    return model


def other_group() -> nn.Module:
    model = nn.SyncBatchNorm(3)
    model.process_group = object()
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out: nn.Module = torch.jit.script(small())
    return out


def distributed() -> nn.Module:
    torch.distributed.init_process_group(
        "gloo", store=vars(torch.distributed)["HashStore"](), rank=0, world_size=1
    )
    try:
        return nn.parallel.DistributedDataParallel(small())
    finally:
        torch.distributed.destroy_process_group()


def fsdp() -> nn.Module:
    class FSDPModule(nn.Module):
        __module__ = "torch.distributed.fsdp"

    class FSDPSequential(FSDPModule, nn.Sequential):
        pass

    return FSDPSequential(nn.BatchNorm2d(3))


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "unknown preset": (small, {"norm": "saauxb"}, "norm='saauxb'; allowed: bn, .* did you mean 'saauxbn'?"),
    "unknown init": (small, {"init": "ones"}, "init='ones'; allowed: identity, paper"),
    "no norms": (lambda: nn.Sequential(nn.Linear(3, 3)), {}, "Sequential has no normalisation layers"),
    "filter excludes all": (
        small,
        {"filter_fn": lambda module, name: False},
        r"filter_fn excluded all 2 norm layers that could convert \(2 BatchNorm2d\)",
    ),
    "only other norms": (
        lambda: nn.Sequential(nn.LayerNorm(3), nn.RMSNorm(3)),
        {"norm": "bn"},
        "norm='bn' converts batch norms and found 1 LayerNorm, 1 RMSNorm; use 'ccbn' or 'sabn'",
    ),
    "nothing to route": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, affine=False)),
        {"norm": "sabn"},
        "norm='sabn' has nothing to convert in 1 BatchNorm2d: without an affine, only batch norms take",
    ),
    "no counterpart": (
        lambda: nn.Sequential(nn.RMSNorm(3)),
        {},
        "none of the norm layers found has a routed counterpart: 1 RMSNorm",
    ),
    "converted already": (lambda: convert(small()), {}, "Sequential is already converted"),
    "DataParallel": (lambda: nn.DataParallel(small()), {}, r"wrapped \(DataParallel\); convert the plain"),
    "DistributedDataParallel": (distributed, {}, r"wrapped \(DistributedDataParallel\)"),
    "compiled": (
        compiled,
        {},
        r"wrapped \(OptimizedModule\)",
    ),
    "compiled in place": (compiled_in_place, {}, r"wrapped \(compiled in place\)"),
    "scripted": (scripted, {}, r"wrapped \(ScriptModule\)"),
    "FSDP": (fsdp, {}, r"wrapped \(FSDPModule\)"),
    "lazy": (lazily, {}, "0 is a LazyBatchNorm2d without a size yet; run one forward pass"),
    "weight_norm": (
        changed(lambda m: nn.utils.weight_norm(m)),
        {},
        r"1 \(BatchNorm2d\) is parametrised \(weight_g, weight_v\); remove weight_norm",
    ),
    "parametrize": (
        changed(lambda m: nn.utils.parametrize.register_parametrization(m, "weight", nn.Identity())),
        {},
        r"1 \(ParametrizedBatchNorm2d\) is parametrised \(parametrizations\)",
    ),
    "own buffer": (
        changed(lambda m: m.register_buffer("weight_mask", torch.ones(3))),
        {},
        r"parametrised \(weight_mask\)",
    ),
    "replaced forward": (
        changed(lambda m: setattr(m, "forward", lambda x: x)),
        {},
        r"1 \(BatchNorm2d\) is an instance whose forward was replaced",
    ),
    "bias alone": (
        changed(lambda m: m.register_parameter("weight", None)),
        {},
        r"1 \(BatchNorm2d\) has a bias and no weight",
    ),
    "unknown subclass": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), OwnNorm(3)),
        {},
        r"1 \(OwnNorm\) is an unknown subclass .* exclude it with filter_fn=lambda module, name: name != '1'",
    ),
    "instance norm with statistics": (
        lambda: nn.Sequential(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
        {},
        r"0 \(InstanceNorm2d\) keeps running statistics",
    ),
    "own process group": (other_group, {}, "synchronises within a process group of its own"),
    "outside the tree": (with_list, {}, r"Parent\.layers keeps a norm layer outside the module tree"),
    "optimizer of another model": (
        small,
        {"optimizer": torch.optim.SGD(small().parameters())},
        "the optimizer steps no parameter of this model",
    ),
    "routes": (small, {"routes": ("a", "a")}, "at least one route, and every name once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_and_nothing_touched(case: str) -> None:
    build, options, message = REFUSED[case]
    model = build()
    modules = [id(module) for module in model.modules()]
    entries = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    with pytest.raises(ValueError, match=message) as caught:
        convert(model, **options)
    assert isinstance(caught.value, ConversionError) or case == "routes"
    assert "\n" not in str(caught.value)
    assert [id(module) for module in model.modules()] == modules
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == entries


def test_the_remedy_of_a_refusal_works() -> None:
    own = OwnNorm(3)
    for model in (nn.Sequential(nn.BatchNorm2d(3), own), nn.Sequential(nn.BatchNorm2d(3), own, Parent(own))):
        with pytest.raises(ConversionError) as caught:
            convert(model)
        remedy = re.search(r"filter_fn=(.*)", str(caught.value))
        assert remedy is not None
        convert(model, filter_fn=eval(remedy[1]))
        assert isinstance(model[0], RoutedBatchNorm2d)
        assert model[1] is own


def test_layers_that_would_stay_plain_anyway_are_not_refused() -> None:
    bare = nn.InstanceNorm2d(3, track_running_stats=True)
    model = convert(nn.Sequential(nn.BatchNorm2d(3), bare))
    assert model.get_submodule("1") is bare


def test_other_norms_are_ignored_by_a_preset_that_does_not_concern_them() -> None:
    class OwnLayerNorm(nn.LayerNorm):
        pass

    model = convert(nn.Sequential(nn.BatchNorm2d(3), OwnLayerNorm(3)), "bn")
    assert [type(layer).__name__ for layer in model.children()] == ["RoutedBatchNorm2d", "OwnLayerNorm"]
