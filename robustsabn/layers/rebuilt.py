"""Keeps a routed layer in place, synchronised or frozen, when a tool replaces it by a rebuilt batch norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_module_registration_hook

from robustsabn.errors import ConversionError
from robustsabn.layers.base import RoutedNorm
from robustsabn.layers.batchnorm import RoutedBatchNorm

__all__: list[str] = []


def _keep_routes(parent: nn.Module, name: str, new: nn.Module | None) -> nn.Module | None:
    """The routed layer that `new` was made from, for torch to register instead; None for other modules."""
    old = parent._modules.get(name)
    if not isinstance(old, RoutedBatchNorm) or isinstance(new, RoutedNorm) or not _made_from(new, old):
        return None
    kind = type(new).__name__
    if isinstance(new, _BatchNorm) and "Sync" in kind and getattr(new, "process_group", None) is None:
        old.sync = True
    elif "Frozen" in kind:
        old.freeze()
    else:
        raise ConversionError(
            f"{kind} was made from the tensors of {name}, a {type(old).__name__}, and would lose its routes; "
            "give the tool bake(model, route), or use it on the plain model before convert"
        )
    return old


def _made_from(new: Any, old: RoutedBatchNorm) -> bool:
    theirs, ours = getattr(new, "running_mean", None), old.running_mean
    if ours is None:
        return isinstance(new, nn.SyncBatchNorm) and theirs is None and new.num_features == old.num_features
    return isinstance(theirs, Tensor) and theirs.shape == ours.shape and theirs.data_ptr() == ours.data_ptr()


_hook: Any = _keep_routes  # torch declares no return value but uses it
register_module_module_registration_hook(_hook)
