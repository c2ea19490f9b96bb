"""Norm classes of other packages: what `known` says about them, a check of it, and proposals for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from robustsabn.conversion.plain_norms import KINDS, Kind, kind_of
from robustsabn.errors import ConversionError
from robustsabn.layers import RoutedLayerNorm
from robustsabn.routing import Router
from robustsabn.text import quote

__all__ = ["Known", "computes_alike", "declared_kind", "proposed"]

Name: TypeAlias = "str | type[nn.Module]"
Known = Mapping[type[nn.Module], "Name | Callable[[nn.Module], Name]"]
"""Maps a class to one that computes the same: nn.LayerNorm, its name, or a function of the layer."""

_BY_NAME = {name.rpartition(".")[2]: kind for name, kind in reversed(KINDS.items())}
_CANDIDATES = ("LayerNorm", "LayerNorm2d", "GroupNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def declared_kind(module: nn.Module, known: Known) -> Kind | None:
    """The kind of a layer by its class or by `known`; ConversionError if `known` names an unknown class."""
    value: Any = known.get(type(module))
    if value is None:
        return kind_of(module)
    if callable(value) and not isinstance(value, type):
        value = value(module)
    kind = _BY_NAME.get(value if isinstance(value, str) else getattr(value, "__name__", ""))
    if kind is None:
        raise ConversionError(
            f"known: {type(module).__name__} is given as {quote(value)}; allowed: "
            f"{', '.join(sorted(_BY_NAME))}"
        )
    return kind


def proposed(layers: Sequence[nn.Module]) -> str | None:
    """Source code of an entry of `known` that fits all layers (of one class) on random inputs, or None."""
    names = {layer: _likely_name(layer) for layer in layers}
    distinct = sorted({name for name in names.values() if name is not None})
    if None in names.values() or len(distinct) > 2:
        return None
    if len(distinct) == 1:
        return f'"{distinct[0]}"'
    for attribute in vars(layers[0]):  # an attribute that distinguishes the layers: data_format, ...
        values = [
            {repr(getattr(m, attribute, None)) for m in layers if names[m] == name} for name in distinct
        ]
        kind = getattr(layers[0], attribute, None)
        if isinstance(kind, (bool, int, str)) and len(values[0]) == 1 and values[0].isdisjoint(values[1]):
            condition = f"layer.{attribute} == {values[0].pop()}"
            return f'lambda layer: "{distinct[0]}" if {condition} else "{distinct[1]}"'
    return None


def _likely_name(module: nn.Module) -> str | None:
    """The class that computes the same as this layer on random inputs; None if that is not clear."""
    matching = [name for name in _CANDIDATES if computes_alike(module, _BY_NAME[name])]
    return None if sum("Batch" in name for name in matching) > 1 else next(iter(matching), None)


def computes_alike(module: nn.Module, kind: Kind) -> bool:
    """Whether a layer computes the same as its routed counterpart, in both modes, with random affines."""
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return True  # nothing can be computed, so nothing contradicts it
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return all(_alike(module, kind, training) for training in (False, True))
    except Exception:  # noqa: BLE001  # foreign code may raise anything for an unexpected input
        return False


def _alike(module: nn.Module, kind: Kind, training: bool) -> bool:
    own: Any = copy.deepcopy(module).train(training)
    routed: Any = kind.routed(
        affine="shared", router=Router(1), bias=own.bias is not None, **kind.arguments(own)
    )
    torch.manual_seed(0)
    for tensor in (*own.parameters(recurse=False), *own.buffers(recurse=False)):
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape))
    for place in ("_parameters", "_buffers"):
        for name, tensor in getattr(own, place).items():
            if name in getattr(routed, place):
                getattr(routed, place)[name] = copy.deepcopy(tensor)
    routed._modules.update(copy.deepcopy(own._modules))
    routed.after = tuple(child for child in kind.after if child in own._modules)
    routed.train(training)
    weight: Tensor = next(own.parameters(recurse=False))
    exact = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 2e-2
    accepted = 0
    for shape in _shapes(routed):
        x = (1 + 2 * torch.randn(shape)).to(weight)
        try:
            torch.manual_seed(1)
            expected = own(x.clone()).float()
        except Exception:  # noqa: BLE001, S112  # the layer does not take this shape
            continue
        torch.manual_seed(1)
        out = routed(x.clone()).float()
        if expected.shape != x.shape or not torch.allclose(out, expected, rtol=exact, atol=exact):
            return False
        accepted += 1
    return accepted > 0


def _shapes(routed: Any) -> list[tuple[int, ...]]:
    """Input shapes of each possible rank, channels first and last, with sizes that all differ."""
    if isinstance(routed, RoutedLayerNorm):
        shape = tuple(routed.shape)
        first = [(3, *shape, 4, 5), (3, *shape, 4)] if len(shape) == 1 else []
        return [(3, *shape), (3, 4, *shape), (2, 3, 4, *shape), *first]
    channels = getattr(routed, "num_features", None) or routed.num_channels
    return [(4, channels, *(5, 3, 2)[: rank - 2]) for rank in getattr(routed, "ranks", (3, 4, 5))]
