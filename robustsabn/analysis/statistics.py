"""How far the statistics of the routes are apart in every batch norm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.analysis.batches import RouteBatch, Routes, batches_of, names_of, outputs_of, undisturbed
from robustsabn.analysis.results import Result, number
from robustsabn.arguments import a_module
from robustsabn.errors import InputError
from robustsabn.layers import RoutedBatchNorm
from robustsabn.report.console import result_table
from robustsabn.routing import maybe_route

__all__ = ["LayerStatistics", "Statistics", "route_statistics"]

Moments = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LayerStatistics:
    """Distances of the means mu_i and deviations sigma_i = sqrt(variance_i + eps), (C,), of the R routes of a
    layer; means over the channels and over the pairs of routes i < j.

    - mean: |mu_j - mu_i| / sigma_i.
    - log_deviation: |log(sigma_j / sigma_i)|.
    """

    layer: str
    routes: int
    mean: float
    log_deviation: float


@dataclass(frozen=True)
class Statistics(Result):
    """Distances of the statistics of R routes in every batch norm, in the order of the model; see
    `route_statistics`. `source` says whether they are "running" or those of the "batch"."""

    names: tuple[str, ...]
    source: Literal["running", "batch"]
    layers: tuple[LayerStatistics, ...]

    def table(self) -> Table:
        rows = [[one.layer, number(one.mean), number(one.log_deviation)] for one in self.layers]
        title = f"{self.source} statistics of {', '.join(self.names)}"
        return result_table(title, ["layer", "distance of means", "log of deviations"], rows)

    def to_dict(self) -> dict[str, Any]:
        layers = [asdict(one) for one in self.layers]
        return {"routes": list(self.names), "source": self.source, "layers": layers}


@torch.no_grad()
def route_statistics(
    model: nn.Module,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    routes: Routes | None = None,
    bn_mode: Literal["frozen", "eval"] = "frozen",
) -> Statistics:
    """Distances between the statistics of the routes, for every batch norm.

    Over the pairs of routes i < j and the C channels of a layer, the means of |mu_j - mu_i| / sigma_i and of
    |log(sigma_j / sigma_i)|, with sigma = sqrt(variance + eps): 0 if the routes do not differ. Computed in
    float64. These are our definitions.

    Without batches, of the running statistics that a model with `statistics="per_route"` keeps. With a batch
    x, or `routes` as in `route_gradients`, of what each route gives the batch norms as input, in every model,
    with the biased variance; layers that a route does not use are left out. The model is left as it was.

    Raises InputError for a model that has no such statistics.

    Example:

        >>> import torch
        >>> from robustsabn import convert
        >>> from robustsabn.analysis import route_statistics
        >>> model = convert(torch.nn.Sequential(torch.nn.BatchNorm2d(2, eps=0)), norm="auxbn")
        >>> model[0].running_mean[1] = torch.tensor([1.0, 3.0])
        >>> route_statistics(model).layers[0].mean
        2.0
    """
    a_module("the model", model, InputError)
    if x is None and routes is None:
        return _running(model)
    batches = batches_of(model, x, y, routes)
    with undisturbed(model, bn_mode):
        found = [_moments(model, batch) for batch in batches]
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
    rows = [
        _of_layer(name, [moments[norm] for moments in found], norm.eps)
        for name, norm in norms
        if all(norm in moments for moments in found)
    ]
    if not rows:
        raise InputError(f"no batch norm of {type(model).__name__} is used by all routes")
    return Statistics(names_of(batches), "batch", tuple(rows))


def _running(model: nn.Module) -> Statistics:
    layers = {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, RoutedBatchNorm) and m.statistics == "per_route" and m.running_mean is not None
    }
    rows = []
    for name, m in layers.items():
        assert m.running_mean is not None
        assert m.running_var is not None
        pairs = zip(m.running_mean.double(), m.running_var.double(), strict=True)
        rows.append(_of_layer(name, list(pairs), m.eps))
    if not rows:
        raise InputError(
            f"{type(model).__name__} has no running statistics by route; give a batch, whose statistics are "
            "measured, or a model with norm='auxbn' or 'saauxbn'"
        )
    return Statistics(next(iter(layers.values())).router.names, "running", tuple(rows))


def _of_layer(name: str, moments: list[Moments], eps: float) -> LayerStatistics:
    means = torch.stack([mean for mean, _ in moments])
    deviations = (torch.stack([var for _, var in moments]) + eps).sqrt()
    pairs = list(combinations(range(len(moments)), 2))
    if not pairs:
        return LayerStatistics(name, len(moments), 0.0, 0.0)
    i, j = torch.tensor(pairs, device=means.device).T
    distance = ((means[j] - means[i]).abs() / deviations[i]).mean()
    ratio = (deviations[j] / deviations[i]).log().abs().mean()
    return LayerStatistics(name, len(moments), *torch.stack([distance, ratio]).tolist())


def _moments(model: nn.Module, batch: RouteBatch) -> dict[nn.Module, Moments]:
    """Mean and biased variance (C,) of the input of every batch norm, over all of its calls."""
    with _inputs(model) as inputs, maybe_route(model, batch.selection):
        outputs_of(model, batch)
    found = {}
    for norm, calls in inputs.items():
        counts, means, squares = (torch.stack(column) for column in zip(*calls, strict=True))
        weights = (counts / counts.sum()).unsqueeze(1)
        mean = (weights * means).sum(0)
        found[norm] = mean, (weights * (squares + (means - mean).square())).sum(0)
    return found


@contextlib.contextmanager
def _inputs(model: nn.Module) -> Iterator[dict[nn.Module, list[tuple[Tensor, Tensor, Tensor]]]]:
    """Number of values, mean and biased variance (C,) of the input of each call of a batch norm."""
    found: dict[nn.Module, list[tuple[Tensor, Tensor, Tensor]]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows = (*args, *kwargs.values())[0].detach().double().transpose(0, 1).flatten(1)
        var, mean = torch.var_mean(rows, 1, correction=0)
        found.setdefault(module, []).append((mean.new_tensor(rows.shape[1]), mean, var))

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    handles = [norm.register_forward_pre_hook(note, with_kwargs=True) for norm in norms]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
