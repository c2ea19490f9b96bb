"""`weight` and `bias` of a routed layer for code that reads them: the affine of the selected route."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils._pytree import tree_map

from robustsabn.errors import RouteError
from robustsabn.routing import current_selection, is_whole_batch

__all__ = ["EffectiveAffine", "effective"]

_OF_ALL_ROUTES = (
    "__len__ device dim dtype element_size get_device grad_fn is_complex is_contiguous is_cpu is_cuda "
    "is_floating_point is_meta is_nested is_sparse layout names ndim ndimension nelement numel "
    "requires_grad shape size stride"
)
_READ = frozenset(_OF_ALL_ROUTES.split())
"""Attributes that need no route."""
_TRAINS = frozenset(("backward", "grad", "is_leaf", "register_hook", "retain_grad"))
"""Attributes of tensors that are trained, which are refused."""
_FUSE = frozenset((fuse_conv_bn_eval.__code__, fuse_linear_bn_eval.__code__))
"""Torch's functions that read running statistics, then weight and bias."""


class EffectiveAffine(Tensor):
    """Represents G_r or B_r of a layer: in a computation it is that of the current selection, with its
    gradient.

    `clone` inside a `route` block gives an ordinary tensor. Raises RouteError outside of such a block, for a
    selection that differs between samples, and if it is written, trained or asked for its gradient; use the
    parameters (`named_parameters`) for that. Its own memory is NaN."""

    layer: Any
    entry: str
    detached: bool
    _is_param = True  # torch registers it as a Parameter: tools rebuild layers from it

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, attribute = func.__name__, getattr(getattr(func, "__self__", None), "__name__", "")
        asked = attribute if name == "__get__" else name
        first = args[0] if args else None
        if asked in _READ:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if isinstance(first, cls) and (
            asked in ("detach", "data") or (asked == "clone" and first.layer.router.root is None)
        ):  # without a route, as when tools rebuild the layer
            return _stand_in(first.layer, first.entry, first.detached or asked != "clone")
        writes = asked in _TRAINS or name in ("__set__", "__setitem__") or name.startswith("__i")
        writes |= name.endswith("_") and not name.endswith("__")
        target = kwargs.get("tensor", first) if writes else kwargs.get("out")
        if isinstance(target, cls):
            raise RouteError(
                f"`{target.entry}` of {type(target.layer).__name__} is computed from its parameters, so it "
                f"can be neither written nor trained ({attribute or name}); use named_parameters(), or the "
                "layer's requires_grad_() and reset_parameters()"
            )
        args, kwargs = tree_map(
            lambda value: _value(value) if isinstance(value, cls) else value, (args, kwargs)
        )
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares its default, which is no method
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """For functions that do not call `__torch_function__`, such as `torch.tensor(layer.weight)`."""
        args, kwargs = tree_map(
            lambda value: _value(value).detach() if isinstance(value, cls) else value, (args, kwargs or {})
        )
        return func(*args, **kwargs)


def effective(layer: Any, entry: str) -> Tensor | None:
    """`weight` or `bias` of a routed layer for other code; the parameter itself if all routes share it."""
    own, compiling = layer._parameters[entry], torch.compiler.is_compiling()
    if layer.statistics == "per_route" and not compiling and sys._getframe(2).f_code in _FUSE:
        raise RouteError(
            f"a {type(layer).__name__} with running statistics per route, which are a table, cannot be "
            "fused; give the tool the plain network bake(model, name)"
        )
    if not layer.has_route_affine:
        return own  # type: ignore[no-any-return]
    if not _sources(layer, entry):
        return None
    return _composed(layer, entry) if compiling else _stand_in(layer, entry)


def _stand_in(layer: Any, entry: str, detached: bool = False) -> EffectiveAffine:
    sources = _sources(layer, entry)
    trained = not detached and any(
        p.requires_grad for p in (*sources, layer._parameters[entry]) if p is not None
    )
    out = Tensor._make_subclass(EffectiveAffine, sources[0].new_full(layer.shape, float("nan")), trained)
    out.layer, out.entry, out.detached = layer, entry, detached
    return out


def _sources(layer: Any, entry: str) -> list[Tensor]:
    """The parameters of the routes' weight or bias: a table, or a linear map."""
    table = layer._parameters[f"route_{entry}"]
    linear = layer.condition_gain if entry == "weight" else layer.condition_bias
    return [table] if table is not None else [] if linear is None else list(linear.parameters())


def _value(seen: EffectiveAffine) -> Tensor:
    if seen.layer.router.root is None:
        raise RouteError(
            f"`{seen.entry}` of {type(seen.layer).__name__} is that of a route, and none is selected; use "
            "it inside `with route(model, name):`, or give tools that fold or fuse layers the plain "
            "network bake(model, name)"
        )
    value = _composed(seen.layer, seen.entry)
    return value.detach() if seen.detached else value


def _composed(layer: Any, entry: str) -> Tensor:
    selection, _ = current_selection(layer.router)
    if not is_whole_batch(selection):
        raise RouteError(
            f"`{entry}` of {type(layer).__name__} is read by the network around it, and the samples of this "
            "batch take different routes; use one route per forward: method.forward=separate in training"
        )
    return layer.effective_affine(selection)[entry == "bias"]  # type: ignore[no-any-return]
