"""`route`, which sets the selection of a model for the forwards inside a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn

from robustsabn.errors import RouteError
from robustsabn.routing.parts import SelectionByPart, chosen_by_part
from robustsabn.routing.router import Router, in_backward, routers_of
from robustsabn.routing.selections import Resolved, Selection

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
      every other selection for the other layers, and None for all. A model with several routers takes a
      mapping {part: selection}, where a part is a `Router`, a submodule or its dotted name: every router at
      or below the part that takes the selection gets it, and routers of no part keep theirs.

    Raises RouteError for a name, dtype, range or shape that does not fit the model, for None if a layer has
    no shared affine, and for a model without routed layers; in a mapping also for a part that is not one of
    the model, and for a router that two parts select differently.

    Example:

        >>> import torch
        >>> from robustsabn import Split, convert, route
        >>> model = convert(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)))
        >>> x = torch.rand(6, 3, 8, 8)
        >>> with route(model, "adv"):
        ...     y = model(x)
        >>> with route(model, Split(clean=2, adv=4)):
        ...     y = model(x)
        >>> pair = torch.nn.Sequential(model, convert(torch.nn.BatchNorm2d(4), routes=5))
        >>> with route(pair, {"0": "adv", "1": 3}):  # two routers
        ...     y = pair(x)
    """

    def __init__(self, model: nn.Module, selection: Selection | SelectionByPart) -> None:
        self.model, self.selection = model, selection
        self.entered: list[_Before] = []

    def __enter__(self) -> None:
        by_part = self.selection if isinstance(self.selection, Mapping) else {self.model: self.selection}
        chosen = chosen_by_part(self.model, by_part)
        recomputing = in_backward()  # on a thread of autograd's, maybe
        claimed = not (recomputing or torch.compiler.is_compiling())
        if claimed:
            _claim(chosen)
        before = []
        for router, value in chosen.items():
            before.append((router, router.selection, router.root, router.pinned, claimed and router.block))
            router.selection, router.root, router.pinned = value, self.model, recomputing or router.pinned
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


def maybe_route(model: nn.Module, selection: Selection | SelectionByPart) -> AbstractContextManager[None]:
    """`route` for a model with routed layers; does nothing for a plain model."""
    return route(model, selection) if routers_of(model) else contextlib.nullcontext()
