"""What the routes of a network do, in numbers with the same names for every task, norm and routes."""

import math
import statistics
from collections.abc import Iterable, Sequence

from torch import nn

from robustsabn.analysis import Gradients, LayerAffines, LayerStatistics, route_affines
from robustsabn.layers.affine import RoutedAffine
from robustsabn.trainers.runs.metrics import Record

__all__ = ["analysis_record"]

GROUPS = ("weight", "scale", "shift")
"""Gradients that every norm with an affine has; see docs/analysis.md."""


def analysis_record(
    model: nn.Module,
    gradients: Gradients,
    apart: Sequence[LayerStatistics] = (),
    *,
    named: bool = False,
) -> Record:
    """The numbers of an analysis of `model`, from the gradients of its routes and their statistics `apart`.

    Balance, cosine and log_ratio are those of `Gram` over all layers, the others are means over the layers.
    Of the gradient norms, those of the routes if they are `named`, otherwise the least and the most. Numbers
    that are not defined are left out.
    """
    totals = {group: gradients.total(group) for group in GROUPS if group in gradients.groups}
    found = {
        f"{number}/{group}": getattr(total, number)
        for number in ("balance", "log_ratio", "cosine")
        for group, total in totals.items()
    }
    for group, total in totals.items():
        names = gradients.names if named else ("least", "most")
        norms = total.norms if named else (min(total.norms), max(total.norms))
        found |= {f"norm_{name}/{group}": norm for name, norm in zip(names, norms, strict=True)}
    affines: Sequence[LayerAffines] = route_affines(model).layers if _has_routes(model) else ()
    for part in ("scale", "shift"):  # the routes of a plain network are equal
        found[f"capv/{part}"] = _mean((getattr(one, f"capv_{part}") for one in affines), 0.0)
        found[f"shared_share/{part}"] = _mean((getattr(one, f"share_{part}") for one in affines), 1.0)
    found["statistics/mean"] = _mean((one.mean for one in apart), math.nan)
    found["statistics/log_deviation"] = _mean((one.log_deviation for one in apart), math.nan)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _has_routes(model: nn.Module) -> bool:
    return any(isinstance(layer, RoutedAffine) and len(layer.router) for layer in model.modules())


def _mean(values: Iterable[float], otherwise: float) -> float:
    """The mean over the layers for which a number is defined."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else otherwise
