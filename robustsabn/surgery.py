"""Replacing modules of a model while keeping aliases, hooks and optimizer entries."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

__all__ = [
    "hollow",
    "move_hooks",
    "replace_modules",
    "restore_fast_path",
    "rewrite_optimizer",
    "stray_reference",
    "wrapper_of",
]

_TABLES = (*(name for name in vars(nn.Module()) if "hook" in name), "_non_persistent_buffers_set")
_WRAPPERS = {
    "DataParallel",
    "DistributedDataParallel",
    "FSDPModule",
    "FullyShardedDataParallel",
    "OptimizedModule",
    "ScriptModule",
}
_EXPANDABLE = {"step", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}


def wrapper_of(model: nn.Module) -> str | None:
    """Class name of a wrapper, shard, compiled or scripted part of a model; None for a plain model."""
    for module in model.modules():
        for cls in type(module).__mro__:
            if cls.__name__ in _WRAPPERS and cls.__module__.startswith("torch."):
                return cls.__name__
    return None


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put each replacement in every place that holds the old module; returns the root, which may be new."""
    for parent in (*model.modules(), *replacements.values()):
        for name, child in parent._modules.items():
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
        if isinstance(parent, nn.TransformerEncoderLayer):
            _skip_fast_path(parent, replacements.values())
    return replacements.get(model, model)


def stray_reference(model: nn.Module, modules: Collection[nn.Module]) -> tuple[str, str] | None:
    """A plain attribute (owner, name) that holds one of the modules, directly or in a list, set or dict."""
    for owner, parent in model.named_modules():
        for name, value in vars(parent).items():
            if name == "_modules":
                continue
            held = value.values() if isinstance(value, dict) else value
            for item in held if isinstance(value, (dict, list, tuple, set)) else (value,):
                if isinstance(item, nn.Module) and item in modules:
                    return owner, name
    return None


def hollow(module: nn.Module) -> nn.Module:
    """A copy of a module with its attributes and names of tensors, but no tensors, children or hooks."""
    shell, blank = copy.copy(module), vars(nn.Module())
    shell.__dict__.update({name: blank[name] for name in _TABLES if "hook" in name})
    shell._parameters = dict.fromkeys(module._parameters)
    shell._buffers = dict.fromkeys(module._buffers)
    shell._modules = {}
    return shell


def move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give `new` the hooks of `old`; the handles from their registration still remove them."""
    for name in _TABLES:
        new.__dict__[name] = getattr(old, name)
    for hook in new._load_state_dict_pre_hooks.values():
        if getattr(hook, "with_module", False):  # torch keeps a weak reference to the module beside the hook
            vars(hook)["module"] = weakref.ref(new)


def rewrite_optimizer(
    optimizer: torch.optim.Optimizer, tables: Mapping[nn.Parameter, nn.Parameter], alive: set[nn.Parameter]
) -> None:
    """Put each route table into the param group of its plain parameter: after it, or in its place if it is
    gone.

    `tables` maps plain parameters to route tables; `alive` are the parameters that are still in the model.
    The optimizer state of a parameter that is gone is repeated for each row of its table if it is a plain
    running average, and dropped otherwise."""
    for group in optimizer.param_groups:
        names = group.get("param_names")
        entries: list[tuple[Any, str]] = []
        for i, parameter in enumerate(group["params"]):
            name = names[i] if names else ""
            if parameter not in tables or parameter in alive:
                entries.append((parameter, name))
            if parameter in tables:
                prefix, dot, leaf = name.rpartition(".")
                entries.append((tables[parameter], f"{prefix}{dot}route_{leaf}"))
        group["params"][:] = [parameter for parameter, _ in entries]
        if names:
            names[:] = [name for _, name in entries]
    for parameter, table in tables.items():
        if parameter not in alive:
            _hand_over(optimizer, parameter, table)


def _hand_over(optimizer: torch.optim.Optimizer, old: nn.Parameter, table: nn.Parameter) -> None:
    state = optimizer.state.pop(old, {})
    if state and state.keys() <= _EXPANDABLE:
        optimizer.state[table] = {
            key: value.flatten().repeat(table.numel() // old.numel()) if _is_like(value, old) else value
            for key, value in state.items()
        }


def _is_like(value: object, parameter: nn.Parameter) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape


def _skip_fast_path(layer: nn.TransformerEncoderLayer, routed: Collection[nn.Module]) -> None:
    """Switch off the fused inference kernel of torch's encoder layer, which never calls its norms."""
    if any(child in routed for child in layer.children()) and "plain_activation_code" not in vars(layer):
        layer.__dict__["plain_activation_code"] = layer.activation_relu_or_gelu
        layer.activation_relu_or_gelu = 0


def restore_fast_path(model: nn.Module) -> None:
    """Undo, in a baked model, what `replace_modules` did to torch's encoder layers."""
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer) and "plain_activation_code" in vars(layer):
            layer.activation_relu_or_gelu = layer.__dict__.pop("plain_activation_code")
