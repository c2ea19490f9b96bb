"""The batch that each route is measured on, and a model that is left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn.arguments import a_module
from robustsabn.attacks.model.mode import BatchNormMode, attack_mode
from robustsabn.errors import InputError
from robustsabn.routing import Selection, SelectionByPart, routes_of
from robustsabn.surgery import wrapper_of
from robustsabn.text import quote

__all__ = ["RouteBatch", "Routes", "batches_of", "names_of", "outputs_of", "undisturbed"]


class RouteBatch(NamedTuple):
    """A route and the batch that measures it; a plain tuple of its first fields may stand for it.

    - selection: what `route` takes, also a mapping of parts.
    - x: the input of the model, a tensor, or a tuple of all its arguments.
    - y: what the loss compares the output with, such as labels (N,); or None.
    - loss: a function of (output of the model, y) that returns one number, which is to be minimised.
    - name: for tables; the name of the selected route by default.

    Example:

        >>> import torch
        >>> from robustsabn.analysis import RouteBatch
        >>> z = torch.randn(8, 16)
        >>> RouteBatch(torch.full((8,), 3), z, None, lambda images, _: -images.mean(), "class 3").name
        'class 3'
    """

    selection: Selection | SelectionByPart
    x: Any
    y: Any = None
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    name: str = ""


Routes: TypeAlias = "Sequence[tuple[Any, ...]]"
"""A `RouteBatch` for each route, or plain tuples of their first fields."""


def batches_of(
    model: nn.Module, x: Tensor | None, y: Tensor | None, routes: Routes | None
) -> list[RouteBatch]:
    """The batches of `routes`, or x and y through every route of the model."""
    a_module("the model", model, InputError)
    wrapper = wrapper_of(model)
    if wrapper:
        raise InputError(f"the model is wrapped ({wrapper}); give the model inside it")
    if routes is None:
        if x is None:
            raise InputError("nothing to measure on; give x and y, or routes=[(selection, x, y), ...]")
        names = routes_of(model)
        if not names:
            raise InputError(
                f"{type(model).__name__} has no routes; give routes=[(selection, x, y), ...], where a plain "
                "model ignores the selections"
            )
        return [RouteBatch(name, x, y, name=name) for name in names]
    if x is not None or y is not None:
        raise InputError("x and y as well as routes; give only one of them")
    if not routes:
        raise InputError("routes is empty; give [(selection, x, y), ...]")
    found = []
    for i, entry in enumerate(routes):
        if not isinstance(entry, tuple) or not 2 <= len(entry) <= 5:
            raise InputError(
                f"a route of type {type(entry).__name__}: {quote(entry)}; give (selection, x, y), which a "
                "loss and a name may follow"
            )
        batch = RouteBatch(*entry)
        found.append(batch._replace(name=batch.name or _name(model, batch.selection, i)))
    names = tuple(batch.name for batch in found)
    if len(set(names)) < len(names):
        raise InputError(f"routes named {', '.join(names)}; give each its own name, the fifth entry")
    return found


def _name(model: nn.Module, selection: object, index: int) -> str:
    names = routes_of(model)
    if isinstance(selection, str):
        return selection
    if isinstance(selection, int) and 0 <= selection < len(names):
        return names[selection]
    return f"route {index}"


def names_of(batches: Sequence[RouteBatch]) -> tuple[str, ...]:
    return tuple(batch.name for batch in batches)


def outputs_of(model: nn.Module, batch: RouteBatch) -> Any:
    """What the model returns for the batch, in the selection in force."""
    return model(*batch.x) if isinstance(batch.x, tuple) else model(batch.x)


@contextlib.contextmanager
def undisturbed(model: nn.Module, bn_mode: BatchNormMode) -> Iterator[None]:
    """Inside the block the model is in eval mode, but for batch norms with "frozen", which then use
    statistics of the batch and update none; modes and random numbers are restored."""
    if bn_mode not in ("frozen", "eval"):
        raise InputError(f"bn_mode is {quote(bn_mode)}; allowed are frozen, eval")
    cuda = {t.device.index for t in (*model.parameters(), *model.buffers()) if t.is_cuda}
    devices = sorted(index for index in cuda if index is not None)
    with torch.inference_mode(False), torch.random.fork_rng(devices), attack_mode(model, bn_mode):
        yield
