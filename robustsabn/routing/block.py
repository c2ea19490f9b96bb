"""`route`, which sets the selection of a model for the forwards inside a block."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.errors import RouteError
from robustsabn.routing.router import Router, in_backward, routers_of
from robustsabn.routing.selections import Blend, Condition, Resolved, Selection

__all__ = ["maybe_route", "route", "selected"]


@contextlib.contextmanager
def selected(
    root: nn.Module, selections: Sequence[tuple[Router, Resolved]], pinned: bool = False, kept: bool = False
) -> Iterator[None]:
    """Set resolved selections inside the block, and restore the former ones after it."""
    before = [(r, r.selection, r.root, r.pinned, r.kept) for r, _ in selections]
    try:
        for router, value in selections:
            router.selection, router.root = value, root
            router.pinned, router.kept = pinned or router.pinned, kept or router.kept
        yield
    finally:
        for router, former, outer, was_pinned, was_kept in before:
            router.selection, router.root, router.pinned, router.kept = former, outer, was_pinned, was_kept


class route(contextlib.ContextDecorator):  # reads as a verb, as torch.no_grad
    """Send every forward of `model` inside the block through the selected route.

    The former selection is restored after the block, also after an error; blocks can be nested.

    - selection: a route's name or number; a LongTensor (N,), one route per sample; `Split`, `Blend`,
      `Condition`; or None, the shared affine only. A `Condition` is for the layers built with `condition=D`,
      every other selection for the other layers, and None for all.

    Raises RouteError for a name, dtype, range or shape that does not fit the model, for None if a layer has
    no shared affine, and for a model without routed layers.

    Example:

        >>> import torch
        >>> from robustsabn import Split, convert, route
        >>> model = convert(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)))
        >>> x = torch.rand(6, 3, 8, 8)
        >>> with route(model, "adv"):
        ...     y = model(x)
        >>> with route(model, Split(clean=2, adv=4)):
        ...     y = model(x)
    """

    def __init__(self, model: nn.Module, selection: Selection) -> None:
        self.model, self.selection = model, selection
        self.entered: list[_Before] = []

    def __enter__(self) -> None:
        model, selection = self.model, self.selection
        routers = {router: layers for router, layers in routers_of(model).items() if router.takes(selection)}
        if not routers:
            raise _nothing_to_select(model, selection)
        if selection is None:
            _check_shared_affines(routers)
        recomputing = in_backward()  # on a thread of autograd's, maybe
        tensors = isinstance(selection, (Tensor, Blend, Condition))
        chosen = [
            router.resolve(selection, _first_tensor(layers) if tensors else None)
            for router, layers in routers.items()
        ]
        claimed = not (recomputing or torch.compiler.is_compiling())
        if claimed:
            _claim(routers)
        before = []
        for router, value in zip(routers, chosen, strict=True):
            before.append((router, router.selection, router.root, router.pinned, claimed and router.block))
            router.selection, router.root, router.pinned = value, model, recomputing or router.pinned
            if claimed:
                router.block = before
        self.entered.append(before)

    def __exit__(self, kind: object, *_: object) -> None:
        before = self.entered.pop()
        overlapped = False
        for router, selection, root, pinned, block in before:
            if block is not False and router.block is not before:
                overlapped = True
                router.rest()
                continue
            router.selection, router.root, router.pinned = selection, root, pinned
            if block is not False:
                router.block = block
                if block is None:
                    router.thread.clear()
        if overlapped and kind is None:
            raise RouteError(
                "a route block of this model ended before another that started inside it, so forwards used "
                "each other's routes; give each coroutine or generator its own copy.deepcopy(model), or "
                "end blocks in order"
            )


_Before = list[tuple[Router, Resolved, "nn.Module | None", bool, object]]
"""What a block found on its routers."""


def _claim(routers: Iterable[Router]) -> None:
    """RouteError where another thread has a block of the same model."""
    thread = threading.get_ident()
    own: list[Router] = []
    for router in routers:
        outermost = not router.thread
        if router.thread.setdefault("id", thread) != thread:  # atomic
            for former in own:
                former.thread.clear()
            raise RouteError(
                "another thread is in a route block of this model; a model belongs to one thread at a "
                "time: give each thread its own copy.deepcopy(model), or use a lock"
            )
        if outermost:
            own.append(router)


def _check_shared_affines(routers: dict[Router, list[nn.Module]]) -> None:
    lacking = [m for layers in routers.values() for m in layers if not getattr(m, "has_shared_affine", True)]
    if lacking:
        raise RouteError(
            f"route None means the shared affine only, but {_described(lacking[0])} has none; "
            "convert with norm='sabn' or 'saauxbn', or select a route"
        )


def _described(layer: Any) -> str:
    affine = getattr(layer, "affine", None)
    return type(layer).__name__ + (f" with affine={affine!r}" if affine else "")


def _nothing_to_select(model: nn.Module, selection: Selection) -> RouteError:
    name, routed = type(model).__name__, bool(routers_of(model))
    if isinstance(selection, Condition):
        return RouteError(
            f"{name} has no layers that take a vector; build them with condition={selection.vectors.shape[1]}"
            + (", or select a route" if routed else "")
        )
    if routed:
        return RouteError(
            f"the layers of {name} take vectors and have no routes; use route(model, Condition(y)) with y "
            "(N, D)"
        )
    return RouteError(f"{name} has no routed layers; convert it first: convert(model, norm='saauxbn')")


def _first_tensor(layers: Iterable[nn.Module]) -> Tensor | None:
    """The first floating-point parameter or buffer, which gives dtype and device."""
    tensors = (t for layer in layers for t in itertools.chain(layer.parameters(), layer.buffers()))
    return next((t for t in tensors if t.is_floating_point()), None)


def maybe_route(model: nn.Module, selection: Selection) -> AbstractContextManager[None]:
    """`route` for a model with routed layers; does nothing for a plain model."""
    return route(model, selection) if routers_of(model) else contextlib.nullcontext()
