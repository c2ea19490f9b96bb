"""Which dimension of an input is that of the samples, by its shape or by a run with more samples."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any, Literal

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
    """The dimension of the samples in x (*, *S); RouteError if it is not clear.

    Networks for images have samples in the first dimension, torch's recurrent and attention layers by default
    in the second. If it may be another than the first, the model of the `route` block is run once on tensors
    without data."""
    outer = x.ndim - len(layer.shape)
    if layer.batch_dim is None:
        samples = _samples(selection)
        fitting = [dim for dim in range(outer) if x.shape[dim] == samples]
        compiling = torch.compiler.is_compiling()
        if fitting == [0] and not compiling:
            _settle(layer, x, samples, [])
        elif fitting and not compiling:
            _rehearse(layer, samples)
        if layer.batch_dim is None and fitting in ([], [0]):
            return 0
    if layer.batch_dim is None or layer.batch_dim >= outer:
        raise _unclear(layer, x, _samples(selection))
    return layer.batch_dim


def check_samples_first(layer: RoutedNorm, x: Tensor, selection: Resolved) -> None:
    """Raise RouteError if the first dimension of x (N, C, *) has the batch's size but is not the samples."""
    samples = _samples(selection)
    same = layer.statistics == "shared" and not layer.has_route_affine
    if not same and len(x) == samples and "_is_replica" not in layer.__dict__:
        _settle(layer, x, samples, [x])


def _settle(layer: RoutedNorm, x: Tensor, samples: int, channels_first: list[Tensor]) -> None:
    """Check a first dimension of the batch's size, until the layer was called just once in a whole forward.

    A second call in one forward, and a length equal to the batch, are decided by a rehearsal, which must
    succeed."""
    doubt = _doubt(layer, samples, channels_first)
    if doubt and layer.batch_dim is None:
        follows = _rehearse(layer, samples)
        if follows is False or (follows is None and doubt == "strong"):
            raise _unclear(layer, x, samples)


def _doubt(layer: RoutedNorm, samples: int, channels_first: list[Tensor]) -> Literal["", "weak", "strong"]:
    """How much speaks against the first dimension; `channels_first` is the input if it is (N, C, *)."""
    root, call, mapped = _running(layer.router.root)
    arguments = [value for value in tree_leaves(call) if isinstance(value, Tensor)]
    if samples < 2 or root is None or not arguments:
        return ""
    if mapped:  # torch.vmap makes one call for all samples
        return "strong"
    before, layer.router.seen[layer] = (
        layer.router.seen.get(layer),
        (layer.router.block, weakref.ref(arguments[0])),
    )
    if before is None:
        if any(x.shape[2:] == (samples,) for x in channels_first):
            return "strong"
        others = (*channels_first, *arguments)
        return "weak" if any(_other_fits(layer, value, samples) for value in others) else ""
    if before[0] is layer.router.block and before[1]() is arguments[0]:
        return "strong"
    layer.batch_dim = 0
    return ""


def _other_fits(layer: RoutedNorm, x: Tensor, samples: int) -> bool:
    """Whether samples may be in another dimension of x; square images in batch norms are not considered.

    A rehearsal for each of these would be too slow.
    """
    sizes = x.shape[1 if x.ndim == 3 else 2 :]
    images = isinstance(layer, nn.modules.batchnorm._BatchNorm) and x.ndim > 3 and len(set(sizes)) == 1
    return not images and (samples in sizes or (x.ndim == 3 and x.shape[2] % samples == 0 < x.shape[2]))


def _samples(selection: Resolved) -> int:
    return sum(n for _, n in selection) if isinstance(selection, tuple) else len(selection)  # type: ignore[arg-type]


def _unclear(layer: RoutedNorm, x: Tensor, samples: int) -> RouteError:
    layer.router.seen.clear()  # this forward does not count
    return RouteError(
        f"{type(layer).__name__} got {tuple(x.shape)} for {samples} samples that take different routes, and "
        "which dimension holds them is not clear, or differs between its calls; use one route per forward: "
        "route(model, name), method.forward=separate in training; call the model once uncompiled inside "
        "`route(model, ...)`, or set layer.batch_dim of each such layer"
    )


def _rehearse(layer: RoutedNorm, samples: int) -> bool | None:
    """Find the batch dimension of every routed layer of the running model, by a run with more samples.

    Returns whether that of `layer` was found; None if the model cannot be rehearsed.
    """
    root, call, _ = _running(layer.router.root)
    answer = None
    if root is None:
        return None
    for other in (5 * samples + 3, 7 * samples + 5):  # two, as one may equal another size in the model
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
    """The model of the `route` block, the arguments of its current call, and whether that is inside
    `torch.vmap`.

    None and False if no call of the model is on the stack.
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
