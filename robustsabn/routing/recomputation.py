"""The route of a forward that activation checkpointing runs again during backward."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.errors import RouteError
from robustsabn.routing.block import selected
from robustsabn.routing.router import Router, in_backward, routers_of
from robustsabn.routing.selections import Resolved, same

__all__ = ["checkpoint_context", "current_selection", "record_selection"]


def checkpoint_context(
    model: nn.Module,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """`context_fn` for activation checkpointing, so that the recomputation uses the route of the forward.

    The recomputation runs in backward, when the `route` block has already ended.

    Example:

        >>> import torch
        >>> from torch.utils.checkpoint import checkpoint
        >>> from robustsabn import checkpoint_context, convert, route
        >>> block = convert(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)))
        >>> x = torch.rand(8, 4, requires_grad=True)
        >>> with route(block, "adv"):
        ...     y = checkpoint(block, x, use_reentrant=False, context_fn=checkpoint_context(block))
        >>> y.sum().backward()
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        now = [(router, router.selection) for router in routers_of(model)]
        return selected(model, now, kept=True), selected(model, now, pinned=True)

    return contexts


def current_selection(router: Router) -> tuple[Resolved, bool]:
    """Selection of the current forward, and whether it is a recomputation inside backward.

    Activation checkpointing runs a forward again during backward, when its `route` block has ended. Every
    routed layer has recorded its selection on the graph of the first forward (`record_selection`). The
    current node of backward belongs to that graph, so the nearest records upstream tell the route. Raises
    RouteError if there is no record, if they differ, and under reentrant checkpointing, whose first forward
    leaves no graph, so that the records would be those of earlier layers."""
    if torch.compiler.is_compiling():
        if not (router.pinned or router.kept):
            _refuse_checkpoint()
        return router.selection, router.pinned
    if not in_backward():
        return router.selection, False
    if router.pinned:  # set by checkpoint_context, or by a `route` block inside the recomputed function
        return router.selection, True
    start: Any = torch._C._current_autograd_node()
    marks = [] if start is None or "CheckpointFunction" in start.name() else _nearest_marks(router, start)
    if marks and all(same(mark, marks[0]) for mark in marks):
        return marks[0], True
    raise RouteError(
        "a routed layer is recomputed in backward (activation checkpointing) and its route is not known; use "
        "checkpoint(..., use_reentrant=False, context_fn=robustsabn.checkpoint_context(model))"
    )


def _refuse_checkpoint() -> None:
    """Raise RouteError if a graph is traced inside `torch.utils.checkpoint`."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != "torch.utils.checkpoint":
        frame = frame.f_back
    if frame is not None:
        raise RouteError(
            "a compiled block inside activation checkpointing cannot look up its route in backward; use "
            "checkpoint(..., use_reentrant=False, context_fn=robustsabn.checkpoint_context(model))"
        )


# As torch.compiler.assume_constant_result does, which would import the compiler at start-up: the function is
# called while tracing, and not traced.
_refuse_checkpoint._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _nearest_marks(router: Router, start: Any) -> list[Resolved]:
    """The first selection recorded on each path upstream of a graph node."""
    marks, queue, seen = [], [start], {start}
    for node in queue:
        if router in node.metadata:
            marks.append(node.metadata[router])
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                queue.append(following)
    return marks


def record_selection(router: Router, selection: Resolved, output: Tensor) -> None:
    """Record the selection on the graph node of a routed layer's output, for `current_selection`."""
    if torch.compiler.is_compiling():
        return
    node: Any = output.grad_fn
    if node is not None:
        node.metadata[router] = selection
