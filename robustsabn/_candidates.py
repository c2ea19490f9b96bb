"""Which layers of a model `convert` replaces, and why it refuses: everything is checked here, nothing is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase

from robustsabn._plain_norms import Kind, is_norm, kind_of, looks_like_norm
from robustsabn.errors import ConversionError
from robustsabn.layers import Preset, RoutedNorm
from robustsabn.surgery import stray_reference
from robustsabn.text import quote

__all__ = ["Filter", "choose"]

Filter = Callable[[nn.Module, str], bool]


def choose(model: nn.Module, norm: str, preset: Preset, filter_fn: Filter | None) -> dict[nn.Module, Kind]:
    """The layers to replace, each known to convert faithfully; ConversionError that says what was found otherwise."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if is_norm(module):
            names.setdefault(module, []).append(name)
    wanted = {
        module: aliases
        for module, aliases in names.items()
        if filter_fn is None or any(filter_fn(module, alias) for alias in aliases)
    }
    chosen: dict[nn.Module, Kind] = {}
    for module, aliases in wanted.items():
        kind = kind_of(module)
        routes_statistics = preset.statistics == "per_route" and isinstance(module, _BatchNorm)
        routes_affine = preset.affine != "shared" or isinstance(module, _BatchNorm)
        bare = kind is not None and module.weight is None and module.bias is None
        if routes_statistics or (routes_affine and not bare):
            chosen[module] = _checked(module, kind, aliases)
    if not chosen:
        raise ConversionError(_nothing(model, norm, excluded=0 if wanted else len(names)))
    stray = stray_reference(model, chosen)
    if stray is not None:
        raise ConversionError(
            f"{stray[0] or type(model).__name__}.{stray[1]} keeps a norm layer outside the module tree, where it cannot "
            "be replaced; register it (nn.ModuleList) or exclude it with filter_fn"
        )
    return chosen


def _checked(module: nn.Module, kind: Kind | None, aliases: list[str]) -> Kind:
    """The kind of a layer that converts faithfully; ConversionError otherwise."""
    name, cls = aliases[0] or "the model", type(module).__name__
    others = f"!= {aliases[0]!r}" if len(aliases) == 1 else f"not in {tuple(aliases)}"
    skip = f"exclude it with filter_fn=lambda module, name: name {others}"
    if isinstance(module, _LazyNormBase):
        raise ConversionError(f"{name} is a {cls} without a size yet; run one forward pass, then convert")
    extra = sorted(
        {key for key, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        - {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    )
    if extra or hasattr(module, "parametrizations"):
        raise ConversionError(
            f"{name} ({cls}) is parametrised ({', '.join(extra) or 'parametrizations'}); remove weight_norm, "
            f"spectral_norm or pruning from it first, or {skip}"
        )
    if kind is None or "forward" in vars(module):
        what = "an unknown subclass" if kind is None else "an instance whose forward was replaced"
        raise ConversionError(f"{name} ({cls}) is {what} of a norm layer and may compute anything; {skip}")
    if module.weight is None and module.bias is not None:
        raise ConversionError(f"{name} ({cls}) has a bias and no weight; {skip}")
    if not kind.has_statistics and getattr(module, "track_running_stats", False):
        raise ConversionError(
            f"{name} ({cls}) keeps running statistics, which routed instance norms do not have; "
            f"build it with track_running_stats=False, or {skip}"
        )
    if getattr(module, "process_group", None) is not None:
        raise ConversionError(
            f"{name} ({cls}) synchronises within a process group of its own; only all processes can"
        )
    return kind


def _nothing(model: nn.Module, norm: str, excluded: int) -> str:
    found = Counter(type(module).__name__ for module in model.modules() if looks_like_norm(module))
    listed = ", ".join(f"{count} {name}" for name, count in found.most_common())
    routed = any(isinstance(module, RoutedNorm) for module in model.modules())
    if excluded:
        return f"filter_fn excluded all {excluded} norm layers that could convert ({listed}); let it return True for some"
    if routed:
        return f"{type(model).__name__} is already converted ({listed}); build a fresh model to convert it differently"
    if not found:
        return f"{type(model).__name__} has no normalisation layers; give a model that has some"
    if norm == "bn":
        return f"norm='bn' converts batch norms and found {listed}; use 'ccbn' or 'sabn'"
    if not any(is_norm(module) for module in model.modules()):
        return f"none of the norm layers found has a routed counterpart: {listed}; build the model with batch, layer or group norms"
    return (
        f"norm={quote(norm)} has nothing to convert in {listed}: without an affine, only batch norms take routes, and only "
        "with 'auxbn' or 'saauxbn'"
    )
