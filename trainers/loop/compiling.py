"""A network compiled for training: a graph of fixed shapes for each way in which it is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["compile_network", "compiled", "images_alone", "many_graphs", "uncompiled"]

LIMIT = 64  # graphs of one function; beyond, torch warns and goes on without compiling


def compile_network(model: nn.Module, **options: Any) -> None:
    """Calls of `model` run compiled code from here on, the same object otherwise. `options` are those of
    torch.compile.
    """

    # a function of ours: torch skips its own frames, so that `model.compile()` would leave an nn.Sequential
    # as it is
    def call(*args: Any, **kwargs: Any) -> Any:
        return model._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    model._compiled_call_impl = torch.compile(call, dynamic=False, **options)


def compiled(model: nn.Module) -> bool:
    """Whether calls of `model` run compiled code."""
    return model._compiled_call_impl is not None


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Calls of `model` run its own code inside the block, whatever was made of it."""
    if not compiled(model):
        yield
        return
    call, model._compiled_call_impl = model._compiled_call_impl, None
    try:
        yield
    finally:
        model._compiled_call_impl = call


@contextmanager
def images_alone(model: nn.Module) -> Iterator[None]:
    """A compiled `model` has no gradients but those of its input inside the block.

    A compiled backward computes all that there are, an eager one those that are asked for.
    """
    frozen = [p for p in model.parameters() if p.requires_grad] if compiled(model) else []
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def many_graphs(wanted: bool) -> Iterator[None]:
    """Room for as many graphs as methods and routes need, if `wanted`; torch allows 8 of a function."""
    if not wanted:
        yield
        return
    from torch._dynamo import config

    settings: Any = config
    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    with settings.patch({name: max(LIMIT, getattr(settings, name))}):
        yield
