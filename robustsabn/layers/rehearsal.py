"""A forward on tensors without data and with another number of samples, to see the shapes that layers get."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from robustsabn.routing import routers_of

__all__ = ["rehearse"]

_HOOKS = {name for name in vars(nn.Module()) if "hook" in name}

Calls = dict[Any, list[torch.Size]]
"""The input shapes of each routed layer, in order of its calls."""


def rehearse(root: nn.Module, call: Any, samples: int, other: int) -> Calls:
    """The input shapes of the routed layers with `other` samples instead of `samples`; empty if they are not
    clear.

    If several dimensions of the arguments have the size of the batch, that of the samples is the one which
    the first dimension of the outputs follows. It is not clear if the outputs also show a second dimension of
    the arguments."""
    dims = {
        dim
        for value in tree_leaves(call)
        if isinstance(value, Tensor)
        for dim, size in enumerate(value.shape)
        if size == samples
    }
    runs = {dim: run for dim in sorted(dims) if (run := _run(root, call, samples, other, dim)) is not None}
    if dims == {0} and runs:
        return runs[0][0]
    leading = [dim for dim, (_, outs) in runs.items() if any(out[:1] == (other,) for out in outs)]
    if not leading and 0 in runs and 1 not in dims:
        leading = [0]
    if len(leading) != 1 or (leading == [0] and 1 in runs and any(other in out for out in runs[1][1])):
        return {}
    return runs[leading[0]][0]


def _run(
    root: nn.Module, call: Any, samples: int, other: int, dim: int
) -> tuple[Calls, list[torch.Size]] | None:
    """Input shapes of layers and shapes of outputs, with dimension `dim` resized; None on failure."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import and rarely needed

    seen: Calls = {}

    def resized(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim > dim and value.shape[dim] == samples:
            return value.new_empty(*value.shape[:dim], other, *value.shape[dim + 1 :])
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
                    module.__dict__["sync"] = False  # other processes may not rehearse
                    module.register_forward_pre_hook(partial(_note, seen, own))
            for router in routers_of(twin):
                if router.condition is not None:  # copies of routers have no vectors
                    like = next(root.parameters())
                    router.selection = like.new_empty(other, router.condition)
            args, kwargs = tree_map(resized, call)
            outs = twin(*args, **kwargs)
    except Exception:  # noqa: BLE001  # some models cannot run without data
        return None
    finally:
        log.disabled = quiet
    return seen, [out.shape for out in tree_leaves(outs) if isinstance(out, Tensor)]


def _note(seen: Calls, own: nn.Module, module: nn.Module, inputs: Any) -> None:
    seen.setdefault(own, []).append(inputs[0].shape)
