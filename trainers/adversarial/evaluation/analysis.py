"""What the routes do at a validation: the same numbers for every norm and every name of the routes."""

import math
import statistics
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.analysis import RouteBatch, route_affines, route_gradients, route_statistics
from robustsabn.attacks import PGD
from robustsabn.routing import maybe_route, routers_of
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.runs.metrics import Record

__all__ = ["analysed"]

GROUPS = ("weight", "scale", "shift")
"""Gradients that every norm has; see docs/analysis.md."""


def analysed(
    model: nn.Module, routes: tuple[str, ...], attack: PGD, x: Tensor, y: Tensor, delta0: Tensor
) -> Record:
    """Gradients, affines and statistics of clean images on the first and attacked ones on the last route.

    `routes` are those that the method trains; none: the model is plain. Images x (N, C, H, W), labels y (N,),
    and the start `delta0` of the attack. Balance, cosine and log_ratio are those of `Gram` over all layers,
    the others are means over the layers. Numbers that are not defined are left out.
    """
    first, last = (routes[0], routes[-1]) if routes else (0, 0)
    with uncompiled(model):
        with maybe_route(model, last):
            x_adv = attack(model, x, y, delta0=delta0)
        batches = [RouteBatch(first, x, y, name="clean"), RouteBatch(last, x_adv, y, name="adv")]
        gradients = route_gradients(model, routes=batches)
        totals = {group: gradients.total(group) for group in GROUPS if group in gradients.groups}
        normed = any(isinstance(module, _BatchNorm) for module in model.modules())
        apart = route_statistics(model, routes=batches).layers if normed else ()
    affines = route_affines(model).layers if routers_of(model) else ()
    found = {
        f"{number}/{group}": getattr(total, number)
        for number in ("balance", "log_ratio", "cosine")
        for group, total in totals.items()
    }
    for i, name in enumerate(gradients.names):
        found |= {f"norm_{name}/{group}": total.norms[i] for group, total in totals.items()}
    for part in ("scale", "shift"):  # the routes of a plain network are equal
        found[f"capv/{part}"] = _mean((getattr(one, f"capv_{part}") for one in affines), 0.0)
        found[f"shared_share/{part}"] = _mean((getattr(one, f"share_{part}") for one in affines), 1.0)
    found["statistics/mean"] = _mean((one.mean for one in apart), math.nan)
    found["statistics/log_deviation"] = _mean((one.log_deviation for one in apart), math.nan)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _mean(values: Iterable[float], otherwise: float) -> float:
    """The mean over the layers for which a number is defined."""
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else otherwise
