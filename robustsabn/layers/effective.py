"""`weight` and `bias` of a routed layer to code around it: the effective affine of the route in force, read only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from robustsabn.errors import RouteError
from robustsabn.routing import current_selection, is_whole_batch

__all__ = ["EffectiveAffine", "effective"]

_PASSED_ON = {"clone", "detach", "data"}
_READ = {
    *(
        "__len__",
        "dim",
        "element_size",
        "get_device",
        "is_complex",
        "is_contiguous",
        "is_floating_point",
        "ndimension",
    ),
    *("nelement", "numel", "size", "stride"),
    *(
        "device",
        "dtype",
        "grad_fn",
        "is_cpu",
        "is_cuda",
        "is_meta",
        "is_nested",
        "is_sparse",
        "layout",
        "names",
        "ndim",
    ),
    *("requires_grad", "shape"),
}


class EffectiveAffine(Tensor):
    """Stands for G_r or B_r of a layer: computed with, it is that of the selection in force, with its gradient.

    RouteError without a `route` block, for a selection that differs between samples, and where it would be written,
    trained or asked for a gradient: those are the parameters' (`named_parameters`). Its own memory is NaN.
    """

    layer: Any
    entry: str
    _is_param = True  # torch's mark of what may be registered as a Parameter: tools rebuild layers from it

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, owner = func.__name__, getattr(getattr(func, "__self__", None), "__name__", "")
        first = args[0] if args else None
        if (name == "__get__" and owner in _READ) or name in _READ:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if isinstance(first, cls) and (name in _PASSED_ON or (name == "__get__" and owner in _PASSED_ON)):
            return _stand_in(first.layer, first.entry)
        writes = name in ("__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__"))
        writes |= (
            name == "__get__"
            or name.startswith("__i")
            or name in ("backward", "register_hook", "retain_grad")
        )
        target = kwargs.get("tensor", first) if writes else kwargs.get("out")
        if isinstance(target, cls):
            raise RouteError(
                f"`{target.entry}` of {type(target.layer).__name__} is computed from its parameters, so it can be "
                f"neither written nor trained ({owner or name}); take those from named_parameters(), or the layer's "
                "requires_grad_() and reset_parameters()"
            )
        args, kwargs = tree_map(
            lambda value: _value(value) if isinstance(value, cls) else value, (args, kwargs)
        )
        return func(*args, **kwargs)


def effective(layer: Any, entry: str) -> Tensor | None:
    """`weight` or `bias` of a routed layer as seen from outside; the parameter itself where all routes share it."""
    own = layer._parameters[entry]
    if layer._parameters["route_weight"] is None:
        return own  # type: ignore[no-any-return]
    if layer._parameters[f"route_{entry}"] is None:
        return None
    if torch.compiler.is_compiling():
        return _composed(layer, entry)
    return _stand_in(layer, entry)


def _stand_in(layer: Any, entry: str) -> EffectiveAffine:
    table = layer._parameters[f"route_{entry}"]
    trained = any(p is not None and p.requires_grad for p in (table, layer._parameters[entry]))
    out = Tensor._make_subclass(EffectiveAffine, table.new_full(layer.shape, float("nan")), trained)
    out.layer, out.entry = layer, entry
    return out


def _value(seen: EffectiveAffine) -> Tensor:
    if seen.layer.router.root is None:
        raise RouteError(
            f"`{seen.entry}` of {type(seen.layer).__name__} is that of a route, and none is selected: use it inside "
            "`with route(model, name):`, or give tools that fold or fuse layers bake(model, name), a plain network"
        )
    return _composed(seen.layer, seen.entry)


def _composed(layer: Any, entry: str) -> Tensor:
    selection, _ = current_selection(layer.router)
    if not is_whole_batch(selection):
        raise RouteError(
            f"`{entry}` of {type(layer).__name__} is read by the network around it, and the samples of this batch take "
            "different routes; take one route in a forward: method.forward=separate in training"
        )
    return layer.effective_affine(selection)[entry == "bias"]  # type: ignore[no-any-return]
