"""How far the effective affines of the routes differ in every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from robustsabn.analysis.results import Result, number
from robustsabn.arguments import a_module
from robustsabn.errors import InputError
from robustsabn.layers.affine import RoutedAffine
from robustsabn.report.console import result_table
from robustsabn.routing import Selection, SelectionByPart, maybe_route

__all__ = ["Affines", "LayerAffines", "route_affines"]


@dataclass(frozen=True)
class LayerAffines:
    """Effective scales G_i and shifts B_i, (C,), of the R routes i of one layer.

    - capv_scale: mean over channels c of Var_i(G_ic); capv_shift: the same of B. 0 for equal routes.
    - share_scale: ||mean_i G_i||^2 / mean_i ||G_i||^2, between 0 and 1 (all routes equal); share_shift: the
      same of B. NaN if all are 0.

    Numbers of a layer without scales, or without shifts, are NaN.
    """

    layer: str
    routes: int
    capv_scale: float
    capv_shift: float
    share_scale: float
    share_shift: float


@dataclass(frozen=True)
class Affines(Result):
    """The effective affines of every routed layer, in the order of the model; see `route_affines`."""

    layers: tuple[LayerAffines, ...]

    def table(self) -> Table:
        head = ["layer", "routes", "CAPV scale", "CAPV shift", "shared share, scale", "shared share, shift"]
        rows = [
            [one.layer, str(one.routes), number(one.capv_scale), number(one.capv_shift)]
            + [number(share, 4) for share in (one.share_scale, one.share_shift)]
            for one in self.layers
        ]
        return result_table("effective affines of the routes", head, rows)

    def to_dict(self) -> dict[str, Any]:
        return {"layers": [asdict(one) for one in self.layers]}


@torch.no_grad()
def route_affines(
    model: nn.Module, selections: Sequence[Selection | SelectionByPart] | None = None
) -> Affines:
    """Variance and common part of the effective affines `y = G_i xhat + B_i` of the routes, for every layer.

    Class-wise affine parameters' variance, CAPV = mean_c Var_i(G_ic) with the variance of the population, of
    G_i = g_i g_s and B_i = g_i b_s + b_i: the two affines of a sandwich folded into one, so that presets can
    be compared. The shared share is ||mean_i G_i||^2 / mean_i ||G_i||^2. These are our definitions, for the
    analysis of arXiv 2102.11382. Everything is computed in float64 from the parameters, without a forward.

    `selections`: by default every route of each layer. Otherwise what `route` takes: some routes, paths of a
    search space, or a `Condition` or LongTensor, of which every sample counts as a route. Layers with
    `condition=D` have no routes and appear only for a `Condition`.

    Raises InputError for a model without such layers, RouteError for selections that do not fit.

    Example:

        >>> import torch
        >>> from robustsabn import convert
        >>> from robustsabn.analysis import route_affines
        >>> model = convert(torch.nn.Sequential(torch.nn.BatchNorm2d(2)), norm="ccbn")
        >>> model[0].route_weight.data[1, 0] = 3.0  # the other scales are 1
        >>> route_affines(model).layers[0].capv_scale
        0.5
    """
    a_module("the model", model, InputError)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, RoutedAffine)}
    rows: dict[str, list[tuple[Tensor | None, Tensor | None]]] = {name: [] for name in layers}
    if selections is None:
        for name, layer in layers.items():
            rows[name] = [layer.effective_affine(i) for i in range(len(layer.router))]
    else:
        for selection in selections:
            with maybe_route(model, selection):
                for name, layer in layers.items():
                    if layer.router.root is not None:  # the selection is for its kind
                        rows[name].append(layer.effective_affine(layer.router.selection))
    found = [_of_layer(name, layers[name].shape, pairs) for name, pairs in rows.items() if pairs]
    if not found:
        raise InputError(
            f"{type(model).__name__} has no layers with routes to compare; give a model of convert(), or "
            "selections for its layers"
        )
    return Affines(tuple(found))


def _of_layer(
    name: str, shape: tuple[int, ...], pairs: Sequence[tuple[Tensor | None, Tensor | None]]
) -> LayerAffines:
    numbers, count = [], 0
    for values in zip(*pairs, strict=True):
        if any(value is None for value in values):
            numbers.append([torch.nan, torch.nan])
            continue
        wide = torch.cat([value.double().reshape(-1, *shape) for value in values if value is not None])
        mean, count = wide.mean(0), len(wide)
        share = mean.square().sum() / wide.square().flatten(1).sum(1).mean()
        numbers.append(torch.stack([wide.var(0, correction=0).mean(), share]).tolist())
    (capv_scale, share_scale), (capv_shift, share_shift) = numbers
    return LayerAffines(name, count, capv_scale, capv_shift, share_scale, share_shift)
