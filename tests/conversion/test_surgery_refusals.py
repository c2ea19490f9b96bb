"""What cannot be converted faithfully is refused in one line, and the model is as it was."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn import convert
from robustsabn.errors import ConversionError
from robustsabn.layers import RoutedBatchNorm2d
from tests.helpers.randomise import Parent, small


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
    "unknown preset": (small, {"norm": "saauxb"}, r"norm='saauxb' \(did you mean saauxbn\?\); allowed: bn, "),
    "unknown init": (small, {"init": "ones"}, "init='ones'; allowed: identity, paper"),
    "no norms": (lambda: nn.Sequential(nn.Linear(3, 3)), {}, "Sequential has no normalisation layers"),
    "filter excludes all": (
        small,
        {"filter_fn": lambda module, name: False},
        r"filter_fn excludes all 2 norm layers that can be converted \(2 BatchNorm2d\)",
    ),
    "only other norms": (
        lambda: nn.Sequential(nn.LayerNorm(3), nn.RMSNorm(3)),
        {"norm": "bn"},
        "norm='bn' converts only batch norms, and the model has 1 LayerNorm, 1 RMSNorm; use 'ccbn' or 'sabn'",
    ),
    "nothing to route": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, affine=False)),
        {"norm": "sabn"},
        "norm='sabn' has nothing to convert in 1 BatchNorm2d: of layers without an affine, only batch norms",
    ),
    "no counterpart": (
        lambda: nn.Sequential(nn.RMSNorm(3)),
        {},
        "no norm layer of the model has a routed counterpart: 1 RMSNorm",
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
    "lazy": (lazily, {}, r"0 \(LazyBatchNorm2d\) has no size yet; run one forward pass"),
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
        r"1 \(BatchNorm2d\) has a bias but no weight",
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
    "own process group": (other_group, {}, "synchronises within its own process group"),
    "outside the tree": (with_list, {}, r"Parent\.layers holds a norm layer outside the module tree"),
    "optimizer of another model": (
        small,
        {"optimizer": torch.optim.SGD(small().parameters())},
        "the optimizer holds no parameter of this model",
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
