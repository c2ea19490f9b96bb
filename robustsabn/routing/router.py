"""`Router`, which holds the selection of one model, and the routers that a model has."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_whole_number
from robustsabn.errors import RouteError
from robustsabn.routing.names import what_is_wrong
from robustsabn.routing.resolution import mixture, routes_by_sample, vectors_by_sample
from robustsabn.routing.selections import Blend, Condition, Resolved, Selection, Split, is_integer
from robustsabn.text import nearest, quote

__all__ = ["Router", "in_backward", "modules_of", "routers_among", "routers_of", "routes_of"]

MOST_ROUTES = 10_000
"""A larger number is a typing error."""

DEFAULT_ROUTES = ("clean", "adv")


class Router:
    """Names of the routes and the current selection, shared by all routed layers of one model.

    `routes` are names, or their number. A router with `condition=D` has no routes: its layers take a vector
    (D,) for each sample. Raises RouteError for other arguments, and for names that are not allowed.

    Example:

        >>> from robustsabn import Router, SaBN2d
        >>> router = Router(("clean", "adv"))
        >>> layers = [SaBN2d(8, router=router), SaBN2d(16, router=router)]
        >>> len(router), router.index("adv")
        (2, 1)
    """

    def __init__(self, routes: int | Sequence[str] = DEFAULT_ROUTES, *, condition: int | None = None) -> None:
        self.condition = condition
        if condition is not None:
            if routes != DEFAULT_ROUTES:
                raise RouteError(
                    f"routes={quote(routes)} and condition={quote(condition)}; give only one: routes, or "
                    "the length of a vector"
                )
            self.condition = a_whole_number("condition", condition, RouteError)
            self.names: tuple[str, ...] = ()
            self.rest()
            return
        if isinstance(routes, str):
            raise RouteError(
                f"routes={quote(routes)}: give a sequence of names such as ({quote(routes)}, 'adv') or a "
                "number"
            )
        if is_integer(routes) and routes > MOST_ROUTES:
            raise RouteError(f"routes={quote(routes)}: a model has at most {MOST_ROUTES}")
        if is_integer(routes):
            routes = tuple(str(i) for i in range(routes))
        if not isinstance(routes, Sequence):
            raise RouteError(
                f"routes={quote(routes)}: give a sequence of names such as ('clean', 'adv') or a number"
            )
        self.names = tuple(routes)
        wrong = what_is_wrong(self.names)
        if wrong:
            raise RouteError(f"routes={quote(self.names)}: {wrong}")
        self.rest()

    def rest(self) -> None:
        """The state outside of any `route` block: the first route is used."""
        self.thread: dict[str, int] = {}  # of the current `route` block
        self.block: object = None  # the innermost block
        self.selection: Resolved = 0
        self.root: nn.Module | None = None  # the model of the current `route` block
        self.pinned = False  # the selection is that of a recomputation in backward
        # layers called with routes by sample, and when
        self.seen: Any = weakref.WeakKeyDictionary()
        self.kept = False  # the recomputation of the current forward will have its selection pinned

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles start outside of any `route` block, since no block would end theirs."""
        return {"names": self.names, "condition": self.condition}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update({"condition": None, **state})
        self.rest()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Router({', '.join(self.names) if self.condition is None else f'condition={self.condition}'})"

    def takes(self, selection: Selection) -> bool:
        """Whether a selection is of this router's kind, vectors or routes; None is of both kinds."""
        return selection is None or isinstance(selection, Condition) == (self.condition is not None)

    def index(self, name: str | SupportsIndex) -> int:
        """Index of a route given by name or number; RouteError with the allowed names otherwise."""
        if is_integer(name) and 0 <= name < len(self.names):
            return int(name)
        if isinstance(name, str) and name in self.names:
            return self.names.index(name)
        shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
        raise RouteError(
            f"no route {quote(name)}{nearest(name, self.names)}: this model has {shown} (or 0 to "
            f"{len(self.names) - 1})"
        )

    def resolve(self, selection: Selection, like: Tensor | None = None) -> Resolved:
        """The selection in the form that layers read, on the device of `like`; RouteError if it is wrong."""
        if selection is None:
            return None
        if not self.takes(selection):
            raise RouteError(
                f"a selection of type {type(selection).__name__} for {self!r}; give a Condition only to "
                "layers built with condition=D"
            )
        if isinstance(selection, (str, bool)) or is_integer(selection):
            return self.index(selection)
        if isinstance(selection, Split):
            parts = tuple((self.index(name), size) for name, size in selection.parts)
            if len({index for index, _ in parts}) < len(parts):
                raise RouteError(
                    f"{quote(selection)} names a route twice; give each route one consecutive part"
                )
            return parts
        if isinstance(selection, Blend):
            return mixture(selection, len(self), self.index, like)
        if isinstance(selection, Condition):
            return vectors_by_sample(selection.vectors, self.condition, like)
        if isinstance(selection, Tensor):
            return routes_by_sample(selection, len(self), like)
        raise RouteError(
            f"a selection of type {type(selection).__name__}; allowed: a route's name or number, a "
            "LongTensor (N,), Split(...), Blend(...), Condition(...) or None; torch.as_tensor makes a "
            "LongTensor of a list or an array"
        )


def modules_of(model: nn.Module) -> dict[nn.Module, None]:
    """The modules of `model.modules()` in its order, in a third of its time."""
    if not isinstance(model, nn.Module):
        raise RouteError(f"the model is {type(model).__name__}; give a torch.nn.Module")
    found: dict[nn.Module, None] = {}

    def visit(module: nn.Module) -> None:
        if module not in found:
            found[module] = None
            for child in module._modules.values():
                if child is not None:
                    visit(child)

    visit(model)
    return found


def routers_among(modules: Iterable[nn.Module]) -> dict[Router, list[nn.Module]]:
    """Every router that routed layers among the modules hold, with these layers."""
    layers_of: dict[Router, list[nn.Module]] = {}
    for module in modules:
        router = module.__dict__.get("router")
        if isinstance(router, Router):
            layers_of.setdefault(router, []).append(module)
    return layers_of


def routers_of(model: nn.Module) -> dict[Router, list[nn.Module]]:
    """Every router of a model with its routed layers, in the order of `model.modules()`."""
    return routers_among(modules_of(model))


def routes_of(model: nn.Module) -> tuple[str, ...]:
    """Names of a model's routes; empty for a model without routes. Raises RouteError if it is not a module.

    Example:

        >>> import torch
        >>> from robustsabn import convert, routes_of
        >>> routes_of(convert(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), routes=("clean", "adv")))
        ('clean', 'adv')
    """
    return next((router.names for router in routers_of(model) if router.condition is None), ())


def in_backward() -> bool:
    """Whether autograd runs backward on this thread, so that a forward is a recomputation."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
