"""Routes: one router object per model says which branch of every routed layer the next forward takes.

    with route(model, "adv"):                      # the whole batch
    with route(model, torch.tensor([0, 1, 1])):    # one route per sample
    with route(model, Split(clean=64, adv=64)):    # consecutive parts of one batch
    with route(model, Blend(clean=0.3, adv=0.7)):  # convex mix of the branches
    with route(model, None):                       # shared affine only

With no `route` active, the first route is taken. A route does not depend on train/eval mode.
One model object belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import NoneType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from robustsabn.errors import RouteError
from robustsabn.text import nearest, quote

__all__ = [
    "Blend",
    "Router",
    "Selection",
    "Split",
    "checkpoint_context",
    "maybe_route",
    "route",
    "routers_of",
    "routes_of",
]


class Split:
    """Consecutive parts of one batch, each through its own route: `Split(clean=64, adv=64)`.

    Routes without a name are given as pairs: `Split((0, 64), (1, 64))`. Sizes are in samples; a part may be empty.
    """

    def __init__(self, *parts: tuple[str | int, int], **named: int) -> None:
        self.parts: tuple[tuple[str | int, int], ...] = (*parts, *named.items())
        if not self.parts:
            raise RouteError("Split() has no parts; write for example Split(clean=64, adv=64)")
        for name, size in self.parts:
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise RouteError(
                    f"Split({name}={quote(size)}): a size is a number of samples, an int of at least 0"
                )
        if len({name for name, _ in self.parts}) < len(self.parts):
            raise RouteError(f"{self!r} names a route twice; give each route one consecutive part")

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{name}={size}' for name, size in self.parts)})"


class Blend:
    """Convex mix of effective affines and statistics: `Blend(clean=0.3, adv=0.7)` or `Blend(weights)`.

    `weights` is a float tensor (R,), which may require grad (mixture weights of a search). Named weights are at least
    0 and sum to 1; routes left out have weight 0.
    """

    def __init__(self, weights: Tensor | None = None, **named: float) -> None:
        if (weights is None) == (not named):
            raise RouteError(
                "Blend takes either one tensor of weights or named weights: Blend(clean=.3, adv=.7)"
            )
        numbers = all(isinstance(w, (int, float)) for w in named.values())
        if not numbers or not isinstance(weights, (Tensor, NoneType)):
            given = named if weights is None else repr(weights)
            raise RouteError(
                f"Blend({given}): give numbers, Blend(clean=.3, adv=.7), or one float tensor (R,)"
            )
        if named and not (
            all(w >= 0 for w in named.values()) and math.isclose(sum(named.values()), 1, abs_tol=1e-6)
        ):
            raise RouteError(
                f"Blend({named}): weights are at least 0 and sum to 1, these sum to {sum(named.values()):g}"
            )
        if weights is not None and not weights.is_floating_point():
            raise RouteError(f"Blend: weights of dtype {weights.dtype}; give a float tensor (R,)")
        self.weights = weights
        self.named = named

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v:g}" for k, v in self.named.items()) if self.named else "weights"
        return f"Blend({inner})"


Selection: TypeAlias = "str | int | Tensor | Split | Blend | None"

Resolved: TypeAlias = "int | Tensor | tuple[tuple[int, int], ...] | None"
"""What layers read: route index | LongTensor (N,) | float Tensor (R,) | ((route, size), ...) | None."""


class Router:
    """Names of the routes and the selection in force, shared by all routed layers of one model."""

    def __init__(self, routes: int | Sequence[str] = ("clean", "adv")) -> None:
        if isinstance(routes, str):
            raise RouteError(
                f"routes={quote(routes)}: give a sequence of names such as ({quote(routes)}, 'adv') or a number"
            )
        if isinstance(routes, int):
            routes = tuple(str(i) for i in range(routes))
        if not isinstance(routes, Sequence):
            raise RouteError(
                f"routes={quote(routes)}: give a sequence of names such as ('clean', 'adv') or a number"
            )
        self.names: tuple[str, ...] = tuple(routes)
        if not self.names or len(set(self.names)) < len(self.names):
            raise RouteError(f"routes={self.names}: at least one route, and every name once")
        if not all(isinstance(name, str) and name for name in self.names):
            raise RouteError(f"routes={self.names}: names are non-empty strings")
        self.selection: Resolved = 0
        self.pinned = False  # the selection holds for a recomputation in backward
        self.kept = False  # the selection will be pinned in that of the forward that runs now

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles made inside a `route` block start with no route active: nothing would end theirs."""
        return {**self.__dict__, "selection": 0, "pinned": False, "kept": False}

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Router({', '.join(self.names)})"

    def index(self, name: str | int) -> int:
        """Index of a route given by name or number; RouteError with what is allowed otherwise."""
        if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(self.names):
            return name
        if isinstance(name, str) and name in self.names:
            return self.names.index(name)
        shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
        raise RouteError(
            f"no route {quote(name)}{nearest(name, self.names)}: this model has {shown} (or 0 to {len(self.names) - 1})"
        )

    def resolve(self, selection: Selection) -> Resolved:
        """Check a selection against the names and bring it to the form that layers read."""
        if selection is None:
            return None
        if isinstance(selection, (str, int)):
            return self.index(selection)
        if isinstance(selection, Split):
            return tuple((self.index(name), size) for name, size in selection.parts)
        if isinstance(selection, Blend):
            return self._blend(selection)
        if isinstance(selection, Tensor):
            return self._per_sample(selection)
        raise RouteError(
            f"a selection of type {type(selection).__name__}; allowed: a route's name or number, a LongTensor (N,), "
            "Split(...), Blend(...) or None"
        )

    def _blend(self, blend: Blend) -> Tensor:
        if blend.weights is None:
            mix = torch.zeros(len(self.names))
            for name, weight in blend.named.items():
                mix[self.index(name)] = weight
            return mix
        if blend.weights.shape != (len(self.names),):
            raise RouteError(
                f"Blend: weights of shape {tuple(blend.weights.shape)} for {len(self.names)} routes; "
                f"give one weight per route, shape ({len(self.names)},)"
            )
        return blend.weights

    def _per_sample(self, routes: Tensor) -> Tensor:
        if routes.dtype != torch.long or routes.ndim != 1:
            raise RouteError(
                f"per-sample routes of dtype {routes.dtype} and shape {tuple(routes.shape)}; give a LongTensor (N,)"
            )
        inside = ((routes >= 0) & (routes < len(self.names))).all()
        if routes.is_cuda:  # no host synchronisation: the device raises
            torch.ops.aten._assert_async.msg(
                inside, f"per-sample routes must lie in 0 to {len(self.names) - 1}"
            )
        elif not torch.compiler.is_compiling() and not inside:
            raise RouteError(
                f"per-sample routes from {int(routes.min())} to {int(routes.max())}; "
                f"this model has routes 0 to {len(self.names) - 1}"
            )
        return routes


def is_whole_batch(selection: Resolved) -> bool:
    """Whether every sample of a batch goes the same way."""
    return not isinstance(selection, (tuple, Tensor)) or (
        isinstance(selection, Tensor) and selection.is_floating_point()
    )


def routers_of(model: nn.Module) -> dict[Router, list[nn.Module]]:
    """Every router of a model with the routed layers that read it, in the order of `model.modules()`."""
    if not isinstance(model, nn.Module):
        raise RouteError(f"the model is {type(model).__name__}; give a torch.nn.Module")
    found: dict[Router, list[nn.Module]] = {}
    for module in model.modules():
        router = module.__dict__.get("router")
        if isinstance(router, Router):
            found.setdefault(router, []).append(module)
    return found


def routes_of(model: nn.Module) -> tuple[str, ...]:
    """Names of a model's routes; empty for a model without routed layers."""
    return next((router.names for router in routers_of(model)), ())


def _in_backward() -> bool:
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@contextlib.contextmanager
def _selected(
    selections: Sequence[tuple[Router, Resolved]], pinned: bool = False, kept: bool = False
) -> Iterator[None]:
    before = [(router, router.selection, router.pinned, router.kept) for router, _ in selections]
    try:
        for router, value in selections:
            router.selection = value
            router.pinned, router.kept = pinned or router.pinned, kept or router.kept
        yield
    finally:
        for router, selection, was_pinned, was_kept in before:
            router.selection, router.pinned, router.kept = selection, was_pinned, was_kept


@contextlib.contextmanager
def route(model: nn.Module, selection: Selection) -> Iterator[None]:
    """Send every forward of `model` inside the block through the selected route; nests and restores on exit.

    Raises RouteError for a name, dtype, range or shape that does not fit the model, for None in a model with a layer
    without a shared affine, and for a model without routed layers.
    """
    routers = routers_of(model)
    if not routers:
        raise RouteError(
            f"{type(model).__name__} has no routed layers; convert it first: convert(model, norm='saauxbn')"
        )
    if selection is None:
        lacking = [
            m for layers in routers.values() for m in layers if not getattr(m, "has_shared_affine", True)
        ]
        if lacking:
            raise RouteError(
                f"route None means the shared affine only, and {type(lacking[0]).__name__} with affine='independent' "
                "has none; convert with norm='sabn' or 'saauxbn', or select a route"
            )
    with _selected([(router, router.resolve(selection)) for router in routers], pinned=_in_backward()):
        yield


def maybe_route(model: nn.Module, selection: Selection) -> AbstractContextManager[None]:
    """`route` for a model that has routes, and nothing for a plain one."""
    return route(model, selection) if routers_of(model) else contextlib.nullcontext()


def checkpoint_context(
    model: nn.Module,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """`context_fn` for activation checkpointing: the recomputation takes the route of the forward.

    `torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False, context_fn=checkpoint_context(model))`
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        now = [(router, router.selection) for router in routers_of(model)]
        return _selected(now, kept=True), _selected(now, pinned=True)

    return contexts


def current_selection(router: Router) -> tuple[Resolved, bool]:
    """Selection for the forward that runs now, and whether it is a recomputation inside backward.

    Activation checkpointing runs a forward again during backward, when its `route` block has long ended. The node that
    backward is at belongs to the graph of the first forward, and every routed layer left its selection on that graph
    (`record_selection`), so the nearest marks upstream tell the route. RouteError where there is none, where they differ,
    and under reentrant checkpointing, whose first forward leaves no graph: its marks would be those of earlier layers.
    """
    if torch.compiler.is_compiling():
        if not (router.pinned or router.kept):
            _refuse_checkpoint()
        return router.selection, router.pinned
    if not _in_backward():
        return router.selection, False
    if router.pinned:  # set by checkpoint_context, or by a `route` block inside the recomputed function
        return router.selection, True
    start: Any = torch._C._current_autograd_node()
    marks = [] if start is None or "CheckpointFunction" in start.name() else _nearest_marks(router, start)
    if marks and all(_same(mark, marks[0]) for mark in marks):
        return marks[0], True
    raise RouteError(
        "a routed layer is recomputed in backward (activation checkpointing) and its route is not known; use "
        "checkpoint(..., use_reentrant=False, context_fn=robustsabn.checkpoint_context(model))"
    )


def _refuse_checkpoint() -> None:
    """RouteError where a graph is traced for a call inside `torch.utils.checkpoint`, or for its recomputation."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != "torch.utils.checkpoint":
        frame = frame.f_back
    if frame is not None:
        raise RouteError(
            "a compiled block inside activation checkpointing cannot look up its route in backward; use "
            "checkpoint(..., use_reentrant=False, context_fn=robustsabn.checkpoint_context(model))"
        )


# What torch.compiler.assume_constant_result sets, which would import the compiler at start-up: the function is called
# while tracing, not traced.
_refuse_checkpoint._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _nearest_marks(router: Router, start: Any) -> list[Resolved]:
    """The first selection left on every path upstream of a graph node."""
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


def _same(a: Resolved, b: Resolved) -> bool:
    return a is b or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b)


def record_selection(router: Router, selection: Resolved, output: Tensor) -> None:
    """Leave the selection on the graph node of a routed layer's output, for `current_selection`."""
    if torch.compiler.is_compiling():
        return
    node: Any = output.grad_fn
    if node is not None:
        node.metadata[router] = selection
