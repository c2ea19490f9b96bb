"""`convert`: give routes to the normalisation layers of any model, without changing its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from robustsabn.conversion.candidates import Filter, choose, say_plain
from robustsabn.conversion.declared import Known
from robustsabn.conversion.plain_norms import Kind
from robustsabn.errors import ConversionError
from robustsabn.layers import PRESETS, Preset, RoutedBatchNorm, RoutedNorm
from robustsabn.layers.affine import Init
from robustsabn.routing import Router, routers_of
from robustsabn.surgery import (
    hollow,
    move_hooks,
    replace_modules,
    rewrite_optimizer,
    wrapper_of,
)
from robustsabn.text import nearest, quote

__all__ = ["convert"]

Tables = dict[nn.Parameter, nn.Parameter]


def convert(
    model: nn.Module,
    norm: str = "saauxbn",
    routes: int | Sequence[str] = ("clean", "adv"),
    *,
    filter_fn: Filter | None = None,
    known: Known | None = None,
    init: Init = "identity",
    optimizer: torch.optim.Optimizer | None = None,
    sync: bool = False,
) -> nn.Module:
    """Replace the normalisation layers of `model` by routed ones, in place, and return the model.

    Batch, layer, group and instance norms convert, also those of torchvision and timm. (If `model` itself is
    a norm layer, a new layer is returned.)

    - norm: "bn", "ccbn", "sabn", "auxbn" or "saauxbn". Only batch norms have statistics per route; of other
      norms only the affine gets routes, and "bn" leaves them as they are.
    - routes: names, or a number of routes.
    - filter_fn(module, qualified_name): whether to convert a layer. A second call can convert further layers,
      with the same routes.
    - known: what your own norm classes compute, such as `{OwnNorm: nn.LayerNorm}`: a class, its name
      ("LayerNorm2d" is layer norm over dimension 1), or a function of the layer. It is checked on a random
      input.
    - init: with "identity" every route computes what the model computed before; "paper" re-initialises
      affines.
    - optimizer: an optimizer of this model, which will also update the new parameters of the routes, each in
      the param group of the affine that it came from.
    - sync: compute batch statistics over all processes.

    The `weight` and `bias` of a layer stay the same Parameters, as the shared affine. Modes, requires_grad,
    dtypes, devices, hooks, aliases and tied parameters are kept. Raises ConversionError, with the model
    unchanged, if no layer matches or one cannot be converted exactly. Gives one PlainNormWarning about norm
    layers that have no routes. Source of the norms: Gong et al., "Sandwich Batch Normalization", arXiv
    2102.11382; Xie et al., "Adversarial Examples Improve Image Recognition" (auxiliary BN), arXiv 1911.09665.

    Example:

        >>> import torch
        >>> from robustsabn import convert, route, routes_of
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> model = convert(model, norm="saauxbn", routes=("clean", "adv"))
        >>> routes_of(model), type(model[1]).__name__
        (('clean', 'adv'), 'RoutedBatchNorm2d')
        >>> with route(model, "adv"):
        ...     features = model(torch.rand(4, 3, 8, 8))
    """
    preset = _preset(norm)
    if not isinstance(model, nn.Module):
        raise ConversionError(
            f"the model is {type(model).__name__}; give a torch.nn.Module, such as the result of build(...)"
        )
    if filter_fn is not None and not callable(filter_fn):
        raise ConversionError(
            f"filter_fn={quote(filter_fn)}; give a function: lambda module, name: name != 'bn1'"
        )
    if not isinstance(init, str) or init not in ("identity", "paper"):
        raise ConversionError(f"init={quote(init)}; allowed: identity, paper")
    wrapper = wrapper_of(model)
    if wrapper or any(module._compiled_call_impl is not None for module in model.modules()):
        raise ConversionError(
            f"the model is wrapped ({wrapper or 'compiled in place'}); convert the plain model, then wrap "
            "or compile it"
        )
    wanted = Router(routes)
    if known is not None and not (isinstance(known, Mapping) and all(isinstance(cls, type) for cls in known)):
        raise ConversionError(
            f"known={quote(known)}; give a dict of classes and what they compute: {{OwnNorm: nn.LayerNorm}}"
        )
    chosen = choose(model, norm, preset, filter_fn, known or {})
    if norm != "bn":
        say_plain(model, known or {}, filter_fn, stacklevel=3)
    router = _join(model, wanted)
    if optimizer is not None:
        _check_optimizer(model, optimizer)

    tables: Tables = {}
    replacements = {old: _routed(old, kind, preset, router, sync, tables) for old, kind in chosen.items()}
    for old, new in replacements.items():
        move_hooks(old, new)
        if init == "paper":
            new.reset_affine(init)
    model = replace_modules(model, replacements)
    if optimizer is not None:
        rewrite_optimizer(optimizer, tables, set(model.parameters()))
    return model


def _preset(norm: str) -> Preset:
    if not isinstance(norm, str) or norm not in PRESETS:
        raise ConversionError(f"norm={quote(norm)}{nearest(norm, PRESETS)}; allowed: {', '.join(PRESETS)}")
    return PRESETS[norm]


def _join(model: nn.Module, wanted: Router) -> Router:
    present = [router for router in routers_of(model) if router.condition is None]
    for router in present:
        if router.names != wanted.names:
            raise ConversionError(
                f"the model already has the routes {', '.join(router.names)}, but routes={wanted.names} is "
                f"given; give routes={router.names}"
            )
    return present[0] if present else wanted


def _check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConversionError(
            f"optimizer={quote(optimizer)}; give a torch.optim.Optimizer of this model, or leave it out"
        )
    own = set(model.parameters())
    if not any(parameter in own for group in optimizer.param_groups for parameter in group["params"]):
        raise ConversionError(
            "the optimizer holds no parameter of this model; give an optimizer that was made from it"
        )


def _routed(old: Any, kind: Kind, preset: Preset, router: Router, sync: bool, tables: Tables) -> RoutedNorm:
    """The routed layer that computes what `old` computes, on every route; `old` does not change."""
    options = kind.arguments(old)
    if kind.has_statistics:
        options["statistics"] = preset.statistics
        options["sync"] = sync or isinstance(old, nn.SyncBatchNorm)
    affine = preset.affine if old.weight is not None else "none"
    new = kind.routed(affine=affine, bias=old.bias is not None, router=router, device="meta", **options)
    for name, plain in old._parameters.items():
        if plain is None:
            continue
        if affine in ("shared", "sandwich"):
            new._parameters[name] = plain
        if affine in ("independent", "sandwich"):
            if plain not in tables:
                tables[plain] = _table(plain, len(router), affine, name)
            new._parameters[f"route_{name}"] = tables[plain]
    for name, plain in old._buffers.items():
        own = new._buffers.get(name)
        if own is not None and plain is not None:
            plain = plain if own.shape == plain.shape else plain.expand(own.shape).clone()
        if name in new._buffers:
            new._buffers[name] = plain
    if isinstance(new, RoutedBatchNorm):
        new.track_running_stats = old.track_running_stats
    new._modules.update(old._modules)
    new.after = tuple(child for child in kind.after if child in old._modules)
    for name, value in vars(old).items():  # other attributes that a parent module may read
        new.__dict__.setdefault(name, value)
    new.__dict__["skeleton"] = hollow(old)  # for `bake`; not a child
    new.training = old.training
    return new


def _table(plain: nn.Parameter, routes: int, affine: str, name: str) -> nn.Parameter:
    rows = plain.detach().expand(routes, *plain.shape).clone()
    if affine == "sandwich":
        rows.fill_(1.0 if name == "weight" else 0.0)
    return nn.Parameter(rows.flatten(), requires_grad=plain.requires_grad)
