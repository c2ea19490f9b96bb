"""Train and eval mode of a model's modules while it is attacked."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from robustsabn.errors import InputError, ModelError
from robustsabn.text import quote
from robustsabn.user_code import kept_alive

__all__ = [
    "BatchNormMode",
    "TrainModeWarning",
    "attack_mode",
    "frozen_statistics",
    "in_training",
    "say_train_mode",
]

BatchNormMode = Literal["eval", "train", "frozen"]


class TrainModeWarning(UserWarning):
    """A model in train mode was attacked in eval mode, and the caller did not say which mode to use.

    Call `model.eval()` first, or give the attack a `bn_mode`.

    Example:

        >>> import torch, warnings
        >>> from robustsabn.attacks import PGD, ThreatModel, TrainModeWarning
        >>> model = torch.nn.Linear(2, 3).train()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     x_adv = PGD(ThreatModel("Linf", 0.1))(model, torch.rand(2, 2), torch.tensor([0, 1]))
        >>> [warning.category is TrainModeWarning for warning in caught]
        [True]
    """


@contextmanager
def attack_mode(model: Callable[..., Any], bn_mode: BatchNormMode = "eval") -> Iterator[None]:
    """Put every module in eval mode inside the block; afterwards each has its own mode again, after errors
    too.

    `bn_mode` acts on modules that have `track_running_stats`: "eval" normalises with running statistics,
    "train" with those of the batch and updates the running ones, "frozen" with those of the batch and updates
    nothing. A layer in eval mode inside a model in train mode was frozen by its owner and stays in eval mode.
    Raises InputError for another mode, and for "train" or "frozen" with a model that is not an nn.Module;
    ModelError if the model ends the program.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import attack_mode
        >>> model = torch.nn.Sequential(torch.nn.Dropout()).train()
        >>> with attack_mode(model):
        ...     model[0].training
        False
        >>> model[0].training
        True
    """
    if bn_mode not in get_args(BatchNormMode):
        raise InputError(f"bn_mode is {quote(bn_mode)}; allowed are {', '.join(get_args(BatchNormMode))}")
    if not isinstance(model, nn.Module):
        if bn_mode != "eval":
            raise InputError(
                f"bn_mode={quote(bn_mode)} needs an nn.Module, but the model is a {type(model).__name__}; "
                "pass the module itself or use bn_mode='eval'"
            )
        with kept_alive(ModelError):
            yield
        return
    before = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    try:
        whole = in_training(model)
        for module, training in before:
            batch = bn_mode != "eval" and hasattr(module, "track_running_stats") and (training or not whole)
            module.training = batch
        frozen = frozen_statistics(model) if bn_mode == "frozen" else nullcontext()
        with kept_alive(ModelError), frozen:
            yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Inside the block, modules in train mode use statistics of the batch and update no running ones."""
    tracking: list[Any] = []  # modules; Any, since nn.Module has no track_running_stats
    buffers: list[tuple[_InstanceNorm, str, Tensor | None]] = []
    try:
        for module in model.modules():
            if in_training(module) and getattr(module, "track_running_stats", False):
                tracking.append(module)
                tracking[-1].track_running_stats = False
                if isinstance(module, _InstanceNorm):  # updates its buffers whatever the attribute says
                    for name in ("running_mean", "running_var"):
                        buffers.append((module, name, module._buffers[name]))
                        module._buffers[name] = None
        yield
    finally:
        for owner, name, value in buffers:
            owner._buffers[name] = value
        for module in tracking:
            module.track_running_stats = True


def in_training(module: nn.Module) -> bool:
    """Whether a module is in train mode; frozen TorchScript has no mode and counts as eval."""
    return bool(getattr(module, "training", False))


def say_train_mode(model: Callable[..., Any], stacklevel: int = 3) -> None:
    """Warn if any module of `model` is in train mode."""
    if isinstance(model, nn.Module) and any(in_training(module) for module in model.modules()):
        warnings.warn(
            "the model is in train mode; the attack runs it in eval mode and restores every module "
            "afterwards. Call model.eval() first, or give bn_mode='eval' (running statistics), 'train' or "
            "'frozen' (statistics of the batch)",
            TrainModeWarning,
            stacklevel=stacklevel,
        )
