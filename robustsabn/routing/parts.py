"""What each router of a model selects, from selections given by part."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn

from robustsabn.errors import RouteError
from robustsabn.routing.router import Router, modules_of, routers_among, routers_of
from robustsabn.routing.selections import Blend, Condition, Resolved, Selection, same
from robustsabn.text import nearest, quote

__all__ = ["SelectionByPart", "chosen_by_part"]

SelectionByPart: TypeAlias = "Mapping[Any, Selection]"
"""A selection for each part of a model: for a `Router`, a submodule, or the dotted name of a submodule.
The keys are typed `Any` since those of a `Mapping` are invariant."""

_Layers: TypeAlias = "dict[Router, list[nn.Module]]"


def chosen_by_part(model: nn.Module, selections: SelectionByPart) -> dict[Router, Resolved]:
    """The resolved selection of every router that is at or below a part and takes the part's selection.

    Raises RouteError if a part is not one of the model, has no router that takes its selection or does not
    have the selected route, and if two parts select one router differently."""
    if not selections:
        raise RouteError(
            "route(model, {}) names no part; give {part: selection}, where a part is a Router, a submodule "
            "of the model or its dotted name"
        )
    modules = modules_of(model)
    every = routers_among(modules)
    chosen: dict[Router, Resolved] = {}
    chosen_by: dict[Router, object] = {}
    for part, selection in selections.items():
        below = every if part is model else _routers_below(part, model, modules, every)
        routers = {router: layers for router, layers in below.items() if router.takes(selection)}
        if not routers:
            raise _nothing_to_select(_shown(part, model), selection, bool(below))
        if selection is None:
            _check_shared_affines(routers)
        tensors = isinstance(selection, (Tensor, Blend, Condition))
        for router, layers in routers.items():
            try:
                value = router.resolve(selection, _first_tensor(layers) if tensors else None)
            except RouteError as error:
                if part is model:
                    raise
                raise RouteError(f"{_shown(part, model)}: {error}") from None
            if router in chosen:
                earlier = chosen_by[router]
                if not (selections[earlier] is selection or same(chosen[router], value)):
                    both = (f"{_shown(p, model)} selects {quote(selections[p])}" for p in (earlier, part))
                    raise RouteError(
                        f"{' and '.join(both)} for the layer {_name(layers[0], model)}; give each router "
                        "one selection"
                    )
            else:
                chosen[router], chosen_by[router] = value, part
    return chosen


def _routers_below(
    part: object, model: nn.Module, modules: Mapping[nn.Module, None], every: _Layers
) -> _Layers:
    """The routers of a part of the model, with the layers that tell their device."""
    if isinstance(part, Router):
        if part not in every:
            raise RouteError(
                f"{_shown(part, model)} is not one of {type(model).__name__}; give a router that its layers "
                "hold, layer.router"
            )
        return {part: every[part]}
    if isinstance(part, str):
        found = _submodule(model, part)
    elif isinstance(part, nn.Module):
        found = part
    else:
        raise RouteError(
            f"a part of type {type(part).__name__}; allowed: a Router, a submodule of the model or its "
            "dotted name"
        )
    if found not in modules:
        raise RouteError(
            f"{_shown(part, model)} is not a part of {type(model).__name__}; give one of model.modules()"
        )
    return routers_of(found)


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = [known for known, _ in model.named_modules() if known]
        raise RouteError(
            f"{type(model).__name__} has no part {quote(name)}{nearest(name, names)}; give one of the names "
            "in model.named_modules()"
        ) from None


def _name(module: nn.Module, model: nn.Module) -> str:
    """The dotted name of a module of the model, or its class."""
    names = (name for name, known in model.named_modules() if known is module)
    return next(names, "") or type(module).__name__


def _shown(part: object, model: nn.Module) -> str:
    return _name(part, model) if isinstance(part, nn.Module) else quote(part)


def _check_shared_affines(routers: _Layers) -> None:
    lacking = [m for layers in routers.values() for m in layers if not getattr(m, "has_shared_affine", True)]
    if lacking:
        raise RouteError(
            f"route None means the shared affine only, but {_described(lacking[0])} has none; "
            "convert with norm='sabn' or 'saauxbn', or select a route"
        )


def _described(layer: Any) -> str:
    affine = getattr(layer, "affine", None)
    return type(layer).__name__ + (f" with affine={affine!r}" if affine else "")


def _nothing_to_select(part: str, selection: Selection, routed: bool) -> RouteError:
    if isinstance(selection, Condition):
        return RouteError(
            f"{part} has no layers that take a vector; build them with condition={selection.vectors.shape[1]}"
            + (", or select a route" if routed else "")
        )
    if routed:
        return RouteError(
            f"the layers of {part} take vectors and have no routes; use route(model, Condition(y)) with y "
            "(N, D)"
        )
    return RouteError(f"{part} has no routed layers; convert it first: convert(model, norm='saauxbn')")


def _first_tensor(layers: Iterable[nn.Module]) -> Tensor | None:
    """The first floating-point parameter or buffer, which gives dtype and device."""
    tensors = (t for layer in layers for t in itertools.chain(layer.parameters(), layer.buffers()))
    return next((t for t in tensors if t.is_floating_point()), None)
