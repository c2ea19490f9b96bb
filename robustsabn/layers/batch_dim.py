"""Which dimension of an input holds the samples: seen from shapes, in a rehearsal with another number of them."""

from __future__ import annotations

import copy
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from robustsabn.errors import RouteError
from robustsabn.routing import Resolved

if TYPE_CHECKING:
    from robustsabn.layers.sample_norms import RoutedLayerNorm

__all__ = ["batch_dim"]

_WRAPPERS = ("torch.nn.parallel.", "torch._dynamo.")
_HOOKS = {name for name in vars(nn.Module()) if "hook" in name}


def batch_dim(layer: RoutedLayerNorm, x: Tensor, selection: Resolved) -> int:
    """The dimension of x that a selection by sample goes along; RouteError where shapes leave it open.

    Networks for images keep samples first, torch's recurrent and attention layers by default second. Where another
    dimension than the first could be it, the model of the `route` block is run once on tensors without data.
    """
    samples = sum(n for _, n in selection) if isinstance(selection, tuple) else len(selection)  # type: ignore[arg-type]
    if layer.batch_dim is None:
        fitting = [dim for dim in range(x.ndim - len(layer.shape)) if x.shape[dim] == samples]
        if fitting in ([], [0]):
            return 0
        if not torch.compiler.is_compiling():
            _rehearse(layer, samples)
    if layer.batch_dim is None or layer.batch_dim >= x.ndim - len(layer.shape):
        raise RouteError(
            f"{type(layer).__name__} got {tuple(x.shape)} for {samples} samples that take different routes, and "
            "which dimension holds them is not clear; call the model once uncompiled inside `route(model, ...)`, "
            "set layer.batch_dim of each such layer, or take one route in a forward: method.forward=separate in training"
        )
    return layer.batch_dim


def _rehearse(layer: RoutedLayerNorm, samples: int) -> None:
    """Note the batch dimension of every layer norm of the running model, found by changing the number of samples."""
    root, call = _running(layer.router.root)
    if root is None:
        return
    for other in (5 * samples + 3, 7 * samples + 5):  # one of them may be the size of something else
        for own, shape in _shapes(root, call, samples, other).items():
            fitting = [dim for dim in range(len(shape) - len(own.shape)) if shape[dim] == other]
            if len(fitting) == 1:
                own.batch_dim = fitting[0]
        if layer.batch_dim is not None:
            return


def _shapes(root: nn.Module, call: Any, samples: int, other: int) -> dict[Any, torch.Size]:
    """What every layer norm is given first when `other` samples take the place of `samples`; empty on failure."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import, and rarely needed

    seen: dict[Any, torch.Size] = {}

    def resized(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == samples:
            return value.new_empty(other, *value.shape[1:])
        return value

    log = logging.getLogger("torch._subclasses.fake_tensor")
    quiet, log.disabled = log.disabled, True
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            held = (
                value
                for module in root.modules()
                for value in (*vars(module).values(), *module.buffers(False))
            )
            memo = {id(value): mode.from_tensor(value) for value in held if isinstance(value, Tensor)}
            twin = copy.deepcopy(root, memo)
            for module, own in zip(twin.modules(), root.modules(), strict=True):
                module.__dict__.update(
                    {name: type(value)() for name, value in vars(module).items() if name in _HOOKS}
                )
                if hasattr(own, "batch_dim"):
                    module.register_forward_pre_hook(partial(_note, seen, own))
            args, kwargs = tree_map(resized, call)
            twin(*args, **kwargs)
    except Exception:  # noqa: BLE001  # code that cannot run without data leaves the question open
        return {}
    finally:
        log.disabled = quiet
    return seen


def _note(seen: dict[Any, torch.Size], own: nn.Module, module: nn.Module, inputs: Any) -> None:
    seen.setdefault(own, inputs[0].shape)


def _running(root: nn.Module | None) -> tuple[nn.Module | None, Any]:
    """The model of the `route` block and the arguments of its call that runs now; None where it is not on the stack."""
    while root is not None and type(root).__module__.startswith(_WRAPPERS):
        root = next(root.children(), None)
    frame = inspect.currentframe()
    while frame is not None and root is not None:
        if frame.f_code is nn.Module._call_impl.__code__ and frame.f_locals.get("self") is root:
            return root, (frame.f_locals["args"], frame.f_locals["kwargs"])
        frame = frame.f_back
    return None, None
