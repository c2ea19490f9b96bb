"""Gradients of every route: how long they are, and whether they point the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from robustsabn.analysis.batches import RouteBatch, Routes, batches_of, names_of, outputs_of, undisturbed
from robustsabn.analysis.gram import Gram, gram, together
from robustsabn.analysis.results import Result, number
from robustsabn.errors import InputError
from robustsabn.layers.affine import RoutedAffine
from robustsabn.report.console import result_table
from robustsabn.routing import Resolved, maybe_route
from robustsabn.text import quote

__all__ = ["Gradients", "route_gradients"]

_GROUPS = {
    "weight": "weights",
    "scale": "effective scales",
    "shift": "effective shifts",
    "route_scale": "scales of the routes",
    "route_shift": "shifts of the routes",
    "shared_scale": "shared scales",
    "shared_shift": "shared shifts",
}
_RAW = {"route_scale": "route_weight", "route_shift": "route_bias", "shared_scale": "weight"}
_RAW["shared_shift"] = "bias"
_PLAIN_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Gradients(Result):
    """Gradients of the mean loss of every route; see `route_gradients`.

    - names: of the R routes; losses: their mean losses.
    - groups: the layers of "weight", "scale", "shift", "route_scale", "route_shift", "shared_scale" and
      "shared_shift", in the order of the model; a group that the model does not have is missing.
    """

    names: tuple[str, ...]
    losses: tuple[float, ...]
    groups: Mapping[str, tuple[Gram, ...]]

    def total(self, group: str = "weight") -> Gram:
        """The gradients of a group as one vector over all its layers."""
        if group not in self.groups:
            raise InputError(f"no group {group!r}; this model has {', '.join(self.groups)}")
        return together("all", self.groups[group])

    def table(self, group: str | None = None) -> Table:
        """Each layer of one group; by default one line for each group."""
        shown = len(self.names) <= 4
        norms = [f"norm {name}" for name in self.names] if shown else ["norm, least", "norm, most"]
        head = [*norms, "balance", "cosine", "diversity"]
        if group is None:
            grams = [(_GROUPS[name], self.total(name)) for name in self.groups]
            title = f"gradients of {len(self.names)} routes, all layers"
        else:
            grams = [(one.layer, one) for one in (*self.groups.get(group, ()), self.total(group))]
            title = f"gradients of {len(self.names)} routes, {_GROUPS[group]}"
        rows = []
        for name, one in grams:
            lengths = one.norms if shown else (min(one.norms), max(one.norms))
            cells = (*lengths, one.balance, one.cosine, one.diversity)
            rows.append([name, *map(number, cells)])
        return result_table(title, [group or "gradients", *head], rows)

    def to_dict(self) -> dict[str, Any]:
        return {
            "routes": list(self.names),
            "losses": list(self.losses),
            "total": {name: self.total(name).to_dict() for name in self.groups},
            "layers": {name: [one.to_dict() for one in grams] for name, grams in self.groups.items()},
        }


def route_gradients(
    model: nn.Module,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    routes: Routes | None = None,
    bn_mode: Literal["frozen", "eval"] = "frozen",
) -> Gradients:
    """Gradients v_i = dL_i / d theta of the mean loss L_i of each route i, for every layer's theta.

    x (N, ...) and labels y (N,) go through every route of the model with the cross entropy. For anything else
    give `routes`, a list of (selection, x, y, loss, name) of which the last three may be left out: clean and
    adversarial images, the classes of a GAN, the paths of a search space, styles. See `RouteBatch`.

    Groups of theta, each layer by itself:

    - weight: every trained parameter of two or more dimensions outside of norms, which the routes share.
    - scale, shift: effective affine (G_i, B_i), `y = G_i xhat + B_i`: a_i = dL_i / dG_i, c_i = dL_i / dB_i.
      Of a plain norm, weight and bias.
    - route_scale, route_shift: the own affine (g_i, b_i) of route i. In a sandwich dL_i / dg_i =
      g_s a_i + b_s c_i.
    - shared_scale, shared_shift: the shared affine (g_s, b_s). In a sandwich dL_i / dg_s = g_i a_i.

    Where a selection goes by sample, the gradients of the rows are added up. A tensor that a route does not
    use has the gradient zero. `bn_mode`: with "frozen" batch norms use statistics of the batch and update
    none, with "eval" running ones; everything else is in eval mode. Parameters, `.grad`, statistics, modes
    and random numbers are left as they are. Costs a forward and a backward for each route, and the memory of
    the weights R times.

    Raises InputError for batches that cannot be measured, and RouteError for selections that do not fit.

    Example:

        >>> import torch
        >>> from robustsabn import convert
        >>> from robustsabn.analysis import route_gradients
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        ... )
        >>> model, x, y = convert(net), torch.rand(16, 4), torch.arange(16) % 3
        >>> gradients = route_gradients(model, routes=[("clean", x, y), ("adv", x + 0.1, y)])
        >>> gradients.names, [one.layer for one in gradients.groups["weight"]]
        (('clean', 'adv'), ['0.weight', '3.weight'])
        >>> gradients.total("scale").balance < 0.1
        True
    """
    batches = batches_of(model, x, y, routes)
    losses, found = [], list[dict[tuple[str, str], Tensor]]()
    with undisturbed(model, bn_mode):
        for batch in batches:
            loss, gradients = _of_route(model, batch)
            losses.append(loss)
            found.append(gradients)
    groups: dict[str, tuple[Gram, ...]] = {}
    for group in _GROUPS:
        layers = [layer for kind, layer in found[0] if kind == group]
        if layers:
            groups[group] = tuple(gram(layer, [one[group, layer] for one in found]) for layer in layers)
    return Gradients(names_of(batches), tuple(torch.stack(losses).tolist()), groups)


def _of_route(model: nn.Module, batch: RouteBatch) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
    """The loss (), and the gradient of every (group, layer)."""
    with _effective_affines(model) as used, maybe_route(model, batch.selection), torch.enable_grad():
        loss = batch.loss(outputs_of(model, batch), batch.y)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        shown = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(
            f"the loss of {quote(batch.name)} is {shown}; give a function of (output, y) that returns one "
            "number, which depends on the parameters"
        )
    sources = _sources(model, used)
    tensors = [tensor for those, _ in sources.values() for tensor in those]
    gradients = iter(torch.autograd.grad(loss.reshape(()), tensors, allow_unused=True))
    found = {}
    for key, (those, shape) in sources.items():
        rows = [g.reshape(-1, *shape).sum(0) for g in islice(gradients, len(those)) if g is not None]
        found[key] = torch.stack(rows).sum(0) if rows else loss.new_zeros(shape)
    return loss.detach().reshape(()), found


def _sources(
    model: nn.Module, used: Mapping[RoutedAffine, tuple[list[Tensor], list[Tensor]]]
) -> dict[tuple[str, str], tuple[list[Tensor], tuple[int, ...]]]:
    """For every (group, layer): the tensors whose gradients are added up, and the shape of the sum."""
    sources: dict[tuple[str, str], tuple[list[Tensor], tuple[int, ...]]] = {}
    routed = []
    for name, module in model.named_modules():
        if isinstance(module, RoutedAffine):
            routed.append(f"{name}." if name else "")
            own = module._parameters
            for group, tensors in zip(("scale", "shift"), used[module], strict=True):
                biases = group == "shift" and own["bias"] is None and own["route_bias"] is None
                if module.affine != "none" and not (biases and module.condition_bias is None):
                    sources[group, name] = tensors, module.shape
            for group, entry in _RAW.items():
                parameter = own[entry]
                if parameter is not None and parameter.requires_grad:
                    sources[group, name] = [parameter], module.shape
        elif isinstance(module, _PLAIN_NORMS):
            for group, parameter in (("scale", module.weight), ("shift", module.bias)):
                if parameter is not None and parameter.requires_grad:
                    sources[group, name] = [parameter], tuple(parameter.shape)
        elif hasattr(module, "router"):  # an embedding of routes
            routed.append(f"{name}.")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.requires_grad and not name.startswith(tuple(routed)):
            sources["weight", name] = [parameter], tuple(parameter.shape)
    return sources


@contextlib.contextmanager
def _effective_affines(model: nn.Module) -> Iterator[dict[RoutedAffine, tuple[list[Tensor], list[Tensor]]]]:
    """The scales and shifts that routed layers compose inside the block, each with a gradient."""
    used: dict[RoutedAffine, tuple[list[Tensor], list[Tensor]]] = {}

    def noting(layer: RoutedAffine) -> Callable[[Resolved], tuple[Tensor | None, Tensor | None]]:
        compose = layer.effective_affine
        used[layer] = [], []

        def composed(selection: Resolved) -> tuple[Tensor | None, Tensor | None]:
            pair = []
            for value, kept in zip(compose(selection), used[layer], strict=True):
                if value is not None and not value.requires_grad:
                    value = value.detach().requires_grad_()
                if value is not None and all(value is not other for other in kept):
                    kept.append(value)
                pair.append(value)
            return pair[0], pair[1]

        return composed

    layers = [module for module in model.modules() if isinstance(module, RoutedAffine)]
    try:
        for layer in layers:
            layer.__dict__["effective_affine"] = noting(layer)
        yield used
    finally:
        for layer in layers:
            layer.__dict__.pop("effective_affine", None)
