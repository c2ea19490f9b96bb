"""Norm classes of other people: what `known` says they are, whether that is true, and what they seem to be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from robustsabn._plain_norms import KINDS, Kind, kind_of
from robustsabn.errors import ConversionError
from robustsabn.layers import RoutedLayerNorm
from robustsabn.routing import Router
from robustsabn.text import quote

__all__ = ["Known", "computes_alike", "declared_kind", "likely_name"]

Name: TypeAlias = "str | type[nn.Module]"
Known = Mapping[type[nn.Module], "Name | Callable[[nn.Module], Name]"]
"""Class to the class it computes the same as: nn.LayerNorm, its name, or a function of the layer that gives one."""

_BY_NAME = {name.rpartition(".")[2]: kind for name, kind in reversed(KINDS.items())}
_CANDIDATES = ("LayerNorm", "LayerNorm2d", "GroupNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def declared_kind(module: nn.Module, known: Known) -> Kind | None:
    """The kind of a layer: of its own class, or of the one that `known` gives; ConversionError for one without routes."""
    value: Any = known.get(type(module))
    if value is None:
        return kind_of(module)
    if callable(value) and not isinstance(value, type):
        value = value(module)
    kind = _BY_NAME.get(value if isinstance(value, str) else getattr(value, "__name__", ""))
    if kind is None:
        raise ConversionError(
            f"known: {type(module).__name__} is said to be {quote(value)}; allowed: {', '.join(sorted(_BY_NAME))}"
        )
    return kind


def likely_name(module: nn.Module) -> str | None:
    """The first class whose computation a layer of an unknown class reproduces on a random input."""
    return next((name for name in _CANDIDATES if computes_alike(module, _BY_NAME[name])), None)


def computes_alike(module: nn.Module, kind: Kind) -> bool:
    """Whether a layer computes what its routed counterpart will, in both modes, on copies with random affines."""
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return True  # nothing can be computed; the claim is taken as it is
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return all(_alike(module, kind, training) for training in (False, True))
    except Exception:  # noqa: BLE001  # whatever foreign code raises for an input that it does not expect
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
    x = 1 + 2 * torch.randn(_shape(routed))
    weight: Tensor = next(own.parameters(recurse=False))
    x = x.to(weight)
    outs = []
    for layer in (own, routed.train(training)):
        torch.manual_seed(1)
        outs.append(layer(x.clone()).float())
    exact = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 2e-2
    return outs[0].shape == x.shape and torch.allclose(outs[0], outs[1], rtol=exact, atol=exact)


def _shape(routed: Any) -> tuple[int, ...]:
    """An input whose sizes cannot be mistaken for one another."""
    if isinstance(routed, RoutedLayerNorm):
        return (3, routed.shape[0], 4, 5) if routed.channels_first else (3, 4, *routed.shape)
    channels = getattr(routed, "num_features", None) or routed.num_channels
    rank = getattr(routed, "ranks", (4,))[-1]
    return (4, channels, *(5, 3, 2)[: rank - 2])
