"""Effective affines of the norms of a model, for histograms."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from robustsabn.layers.affine import RoutedAffine

__all__ = ["affines_by_route"]

MOST = 10
"""Routes that are shown of a router with more, evenly spaced."""


@torch.no_grad()
def affines_by_route(model: nn.Module) -> dict[str, np.ndarray]:
    """Scales and shifts of all norms together, as "scale/ROUTE" and "shift/ROUTE"; the route of plain norms
    is "all".

    G_i and B_i of `y = G_i xhat + B_i`: in a sandwich G_i = g_i g_s and B_i = g_i b_s + b_i.
    """
    found: dict[str, list[Tensor]] = {}
    for layer in model.modules():
        for route, pair in _affines(layer).items():
            for part, values in zip(("scale", "shift"), pair, strict=True):
                if values is not None:
                    found.setdefault(f"{part}/{route}", []).append(values.detach().flatten().float())
    return {name: torch.cat(values).cpu().numpy() for name, values in found.items()}


def _affines(layer: nn.Module) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Scale and shift of a norm, by route."""
    if isinstance(layer, RoutedAffine):
        names = layer.router.names
        n = min(MOST, len(names))
        chosen = [i * len(names) // n for i in range(n)]
        return {names[i]: layer.effective_affine(i) for i in chosen}
    if isinstance(layer, (_NormBase, nn.LayerNorm, nn.GroupNorm)):
        return {"all": (layer.weight, layer.bias)}
    return {}
