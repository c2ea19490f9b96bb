"""Which layers of a model `convert` replaces, and why it refuses others; nothing is changed here."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase

from robustsabn.conversion.declared import Known, computes_alike, declared_kind, proposed
from robustsabn.conversion.plain_norms import Kind, is_norm, looks_like_norm
from robustsabn.errors import ConversionError, PlainNormWarning
from robustsabn.layers import Preset, RoutedNorm
from robustsabn.surgery import stray_reference
from robustsabn.text import quote

__all__ = ["Filter", "choose", "say_plain"]

Filter = Callable[[nn.Module, str], bool]
Names = dict[nn.Module, list[str]]
_UNKNOWN = "is an unknown subclass of a norm layer and may compute anything"


class _Refusal(NamedTuple):
    cls: str
    why: str
    remedy: str = ""


def choose(
    model: nn.Module, norm: str, preset: Preset, filter_fn: Filter | None, known: Known
) -> dict[nn.Module, Kind]:
    """The layers to replace, all of which convert exactly; ConversionError for none, or one that cannot."""
    names: Names = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, RoutedNorm) and (is_norm(module) or type(module) in known):
            names.setdefault(module, []).append(name)
    missing = [cls for cls in known if not any(type(module) is cls for module in names)]
    if missing:
        raise ConversionError(f"known: the model has no layer of {_listed(cls.__name__ for cls in missing)}")
    wanted = {m for m, own in names.items() if filter_fn is None or any(filter_fn(m, name) for name in own)}
    chosen: dict[nn.Module, Kind] = {}
    refused: dict[nn.Module, _Refusal] = {}
    for module in names:
        kind = declared_kind(module, known)
        if not _takes_routes(module, kind, preset):
            continue
        refusal = _refusal(module, kind, told=type(module) in known)
        if refusal is not None:
            refused[module] = refusal
        elif module in wanted and kind is not None:
            chosen[module] = kind
    if not wanted.isdisjoint(refused):
        # all refused layers are named, also those that filter_fn excludes: the advice is a complete filter
        raise ConversionError(_all_refused(refused, names))
    if not chosen:
        raise ConversionError(_nothing(model, norm, excluded=0 if wanted else len(names)))
    stray = stray_reference(model, chosen)
    if stray is not None:
        raise ConversionError(
            f"{stray[0] or type(model).__name__}.{stray[1]} holds a norm layer outside the module tree, "
            "where it cannot be replaced; register it (nn.ModuleList) or exclude it with filter_fn"
        )
    return chosen


def say_plain(model: nn.Module, known: Known, filter_fn: Filter | None, stacklevel: int) -> None:
    """Give one PlainNormWarning for all norm layers without a routed counterpart, which all routes share."""
    each = _plain(model, known, filter_fn)
    if each:
        warnings.warn(
            "norm layers of classes that have no routes stay plain, and all routes share them: "
            f"{', '.join(each)}. If you want that, let filter_fn return False for them; otherwise build the "
            "model with batch, layer, group or instance norms",
            PlainNormWarning,
            stacklevel=stacklevel,
        )


def _plain(model: nn.Module, known: Known, filter_fn: Filter | None) -> list[str]:
    """For each class of norm layers without a routed counterpart: number, names, proposal for `known`."""
    by_class: dict[type[nn.Module], dict[str, nn.Module]] = {}
    for name, module in model.named_modules():
        plain = looks_like_norm(module) and not isinstance(module, RoutedNorm) and not is_norm(module)
        if plain and type(module) not in known and (filter_fn is None or filter_fn(module, name)):
            by_class.setdefault(type(module), {})[name] = module
    each = []
    for cls, layers in by_class.items():
        namesake = hasattr(nn, cls.__name__) and not cls.__module__.startswith("torch.")
        called = f"{cls.__module__}.{cls.__name__}" if namesake else cls.__name__
        likely = proposed([*layers.values()])
        advice = f"; known={{{cls.__name__}: {likely}}} would convert them" if likely else ""
        each.append(f"{len(layers)} {called} ({_listed(layers)}{advice})")
    return each


def _takes_routes(module: Any, kind: Kind | None, preset: Preset) -> bool:
    batch = isinstance(module, _BatchNorm) if kind is None else kind.has_statistics
    bare = kind is not None and module.weight is None and module.bias is None
    return (preset.statistics == "per_route" and batch) or ((preset.affine != "shared" or batch) and not bare)


def _refusal(module: nn.Module, kind: Kind | None, told: bool) -> _Refusal | None:
    """Why a layer does not convert exactly; None if it does."""
    cls = type(module).__name__
    if isinstance(module, _LazyNormBase):
        return _Refusal(cls, "has no size yet", "run one forward pass, then convert")
    extra = sorted(
        {key for key, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        - {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    )
    if extra or hasattr(module, "parametrizations"):
        return _Refusal(
            cls,
            f"is parametrised ({', '.join(extra) or 'parametrizations'})",
            "remove weight_norm, spectral_norm or pruning first",
        )
    if "forward" in vars(module):
        return _Refusal(cls, "is an instance whose forward was replaced and may compute anything")
    if kind is None:
        return _Refusal(cls, _UNKNOWN)
    if module.weight is None and module.bias is not None:
        return _Refusal(cls, "has a bias but no weight")
    if told and not computes_alike(module, kind):
        return _Refusal(cls, "does not compute what `known` says")
    if not kind.has_statistics and getattr(module, "track_running_stats", False):
        return _Refusal(
            cls,
            "keeps running statistics, which routed instance norms do not have",
            "build it with track_running_stats=False",
        )
    if getattr(module, "process_group", None) is not None:
        return _Refusal(cls, "synchronises within its own process group; routed layers use all processes")
    return None


def _all_refused(refused: dict[nn.Module, _Refusal], names: Names) -> str:
    """One sentence for each kind of refusal, and a filter that excludes all refused layers."""
    groups: dict[_Refusal, list[nn.Module]] = {}
    for module, refusal in refused.items():
        groups.setdefault(refusal, []).append(module)
    sentences = []
    for refusal, modules in groups.items():
        first = [names[module][0] or "the model" for module in modules]
        each = " each" if len(modules) > 1 else ""
        likely = proposed(modules) if refusal.why == _UNKNOWN else None
        told = (
            f"it computes the same on a random input as this, so you may say known={{{refusal.cls}: "
            f"{likely}}}"
        )
        remedy = f"; {told if likely else refusal.remedy}" if likely or refusal.remedy else ""
        sentences.append(f"{_listed(first)} ({refusal.cls}){each} {refusal.why}{remedy}")
    text = ". ".join(sentences)
    if len(refused) == len(names):
        return f"{text}. No other norm layer would be left to convert"
    return (
        f"{text}; or exclude {'it' if len(refused) == 1 else 'them'} with filter_fn={_filter(refused, names)}"
    )


def _filter(refused: dict[nn.Module, _Refusal], names: Names) -> str:
    """Source code of a filter that excludes exactly the refused layers, by class where possible."""
    kept = {type(module).__name__ for module in names if module not in refused}
    aliases: dict[str, list[str]] = {}
    for module in refused:
        aliases.setdefault(type(module).__name__, []).extend(names[module])
    classes = [cls for cls, own in aliases.items() if cls not in kept and len(own) > 1]
    single = [name for cls, own in aliases.items() if cls not in classes for name in own]
    terms = [_unlike("type(module).__name__", classes), _unlike("name", single)]
    return f"lambda module, name: {' and '.join(term for term in terms if term)}"


def _unlike(subject: str, values: list[str]) -> str:
    return (
        f"{subject} not in {tuple(values)}"
        if len(values) > 1
        else f"{subject} != {values[0]!r}"
        if values
        else ""
    )


def _listed(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _nothing(model: nn.Module, norm: str, excluded: int) -> str:
    counts = Counter(
        type(module).__name__ for module in model.modules() if is_norm(module) or looks_like_norm(module)
    )
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    routed = any(isinstance(module, RoutedNorm) for module in model.modules())
    if excluded:
        return (
            f"filter_fn excludes all {excluded} norm layers that can be converted ({listed}); let it return "
            "True for some"
        )
    if routed:
        return (
            f"{type(model).__name__} is already converted ({listed}); build a fresh model to convert it "
            "differently"
        )
    if not counts:
        return f"{type(model).__name__} has no normalisation layers; give a model with some"
    if norm == "bn":
        return f"norm='bn' converts only batch norms, and the model has {listed}; use 'ccbn' or 'sabn'"
    if not any(is_norm(module) for module in model.modules()):
        plain = ", ".join(_plain(model, {}, None)) or listed
        return (
            f"no norm layer of the model has a routed counterpart: {plain}; build the model with batch, "
            "layer or group norms"
        )
    return (
        f"norm={quote(norm)} has nothing to convert in {listed}: of layers without an affine, only batch "
        "norms can have routes, with 'auxbn' or 'saauxbn'"
    )
