"""Which dimension of an input holds the samples: seen from shapes, in a rehearsal with another number of them."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from robustsabn.errors import RouteError
from robustsabn.layers.rehearsal import rehearse
from robustsabn.routing import Resolved

if TYPE_CHECKING:
    from robustsabn.layers.base import RoutedNorm

__all__ = ["batch_dim", "check_samples_first"]

_WRAPPERS = ("torch.nn.parallel.", "torch._dynamo.")


def batch_dim(layer: RoutedNorm, x: Tensor, selection: Resolved) -> int:
    """The dimension of x (*, *S) that a selection by sample goes along; RouteError where shapes leave it open.

    Networks for images keep samples first, torch's recurrent and attention layers by default second. Where another
    dimension than the first could be it, the model of the `route` block is run once on tensors without data.
    """
    outer = x.ndim - len(layer.shape)
    if layer.batch_dim is None:
        samples = _samples(selection)
        fitting = [dim for dim in range(outer) if x.shape[dim] == samples]
        compiling = torch.compiler.is_compiling()
        if not fitting or (fitting == [0] and (compiling or not _called_before(layer, samples))):
            return 0
        if not compiling:
            _rehearse(layer, samples)
    if layer.batch_dim is None or layer.batch_dim >= outer:
        raise _unclear(layer, x, _samples(selection))
    return layer.batch_dim


def check_samples_first(layer: RoutedNorm, x: Tensor, selection: Resolved) -> None:
    """RouteError where the first dimension of x (N, C, *), as long as the batch, holds something else than samples.

    Asked until the layer has been called once in a whole forward; a second call in one forward, or another dimension
    that could be the samples, is asked about in a rehearsal.
    """
    samples, first = _samples(selection), layer not in layer.router.seen
    same = layer.statistics == "shared" and layer._parameters["route_weight"] is None
    if same or len(x) != samples or "_is_replica" in layer.__dict__:
        return
    again = _called_before(layer, samples)
    if layer.batch_dim is None and (again or (first and _doubtful(layer, x, samples))):
        follows = _rehearse(layer, samples)
        if follows is False or (again and follows is None):
            raise _unclear(layer, x, samples)


def _doubtful(layer: RoutedNorm, x: Tensor, samples: int) -> bool:
    """Whether samples could be behind the channels of x. Batch norms on square images are not doubted: rehearsals cost."""
    sizes = x.shape[2:]
    if len(sizes) == 1 or samples < 2:
        return samples > 1 and sizes[0] % samples == 0
    images = isinstance(layer, nn.modules.batchnorm._BatchNorm) and len(set(sizes)) == 1
    return samples in sizes and not images


def _samples(selection: Resolved) -> int:
    return sum(n for _, n in selection) if isinstance(selection, tuple) else len(selection)  # type: ignore[arg-type]


def _unclear(layer: RoutedNorm, x: Tensor, samples: int) -> RouteError:
    layer.router.seen.clear()  # this forward does not count
    return RouteError(
        f"{type(layer).__name__} got {tuple(x.shape)} for {samples} samples that take different routes, and "
        "which dimension holds them is not clear, or differs between its calls; take one route in a forward: "
        "route(model, name), method.forward=separate in training; call the model once uncompiled inside "
        "`route(model, ...)`, or set layer.batch_dim of each such layer"
    )


def _called_before(layer: RoutedNorm, samples: int) -> bool:
    """Whether the forward that runs now has called this layer already; a second forward settles that it does not."""
    if samples < 2:
        return False
    root, call, mapped = _running(layer.router.root)
    given = next((value for value in tree_leaves(call) if isinstance(value, Tensor)), None)
    if root is None or given is None or mapped:  # torch.vmap calls once for all
        return mapped
    before, layer.router.seen[layer] = layer.router.seen.get(layer), (layer.router.block, weakref.ref(given))
    if before is None:
        return False
    if before[0] is layer.router.block and before[1]() is given:
        return True
    layer.batch_dim = 0
    return False


def _rehearse(layer: RoutedNorm, samples: int) -> bool | None:
    """Note the batch dimension of every routed layer of the running model, found by changing the number of samples.

    Whether that of `layer` is found; None where the model cannot be rehearsed.
    """
    root, call, _ = _running(layer.router.root)
    answer = None
    if root is None:
        return None
    for other in (5 * samples + 3, 7 * samples + 5):  # one of them may be the size of something else
        for own, shapes in rehearse(root, call, samples, other).items():
            dims = {own.dim_of_samples(shape, other) for shape in shapes}
            if own.batch_dim is None and len(dims) == 1:
                own.batch_dim = dims.pop()
            if own is layer:
                answer = own.batch_dim is not None
        if answer:
            break
    return answer


def _running(root: nn.Module | None) -> tuple[nn.Module | None, Any, bool]:
    """The model of the `route` block, the arguments of its call that runs now, and whether `torch.vmap` runs inside it.

    None and False where the model is not on the stack.
    """
    while root is not None and type(root).__module__.startswith(_WRAPPERS):
        root = next(root.children(), None)
    frame, mapped = inspect.currentframe(), False
    while frame is not None and root is not None:
        if frame.f_code is nn.Module._call_impl.__code__ and frame.f_locals.get("self") is root:
            return root, (frame.f_locals["args"], frame.f_locals["kwargs"]), mapped
        mapped = mapped or frame.f_globals.get("__name__") == "torch._functorch.vmap"
        frame = frame.f_back
    return None, None, False
