"""Networks compiled for training: one graph of fixed shapes for each way of calling them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["compile_network", "compiled", "images_alone", "many_graphs", "uncompiled"]

LIMIT = 64  # graphs per function; above, torch warns and runs eagerly


def compile_network(model: nn.Module, **options: Any) -> None:
    """Compile `model` in place, so that calling it runs compiled code.

    `options` are those of torch.compile.
    """

    # torch skips its own frames, so `model.compile()` would not compile an nn.Sequential
    def call(*args: Any, **kwargs: Any) -> Any:
        return model._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    model._compiled_call_impl = torch.compile(call, dynamic=False, **options)


def compiled(model: nn.Module) -> bool:
    """Whether calls of `model` run compiled code."""
    return model._compiled_call_impl is not None


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Bypass torch.compile for `model` inside the block."""
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
    """Inside the block a compiled `model` computes gradients for its input only.

    A compiled backward pass computes all gradients, an eager one only those that were requested.
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
    """Allow as many graphs as methods and routes need if `wanted`; torch's limit is 8 per function."""
    if not wanted:
        yield
        return
    from torch._dynamo import config

    settings: Any = config
    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    with settings.patch({name: max(LIMIT, getattr(settings, name))}):
        yield
