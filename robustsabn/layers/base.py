"""Base of the routed normalisation layers: checks of the batch, plain counterparts, fused activations."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_whole_number
from robustsabn.errors import ConversionError, RouteError
from robustsabn.layers.affine.parameters import RoutedAffine
from robustsabn.routing import Resolved, is_blend, is_condition, is_whole_batch
from robustsabn.surgery import hollow

__all__ = ["RoutedNorm", "Tied", "check_features"]

Tied = dict[tuple[int, ...], nn.Parameter]
"""Parameters of the plain layers made so far, by the routed parameters that they come from."""


class RoutedNorm(RoutedAffine):
    """Base of the routed layers: `y = g_r * (g_s * xhat + b_s) + b_r`, composed at parameter size."""

    skeleton: nn.Module | None = None
    """The plain layer that this one was converted from, without tensors, children and hooks; not a child."""
    batch_dim: int | None = None
    """The dimension of the samples, once it is known; it is 0 except for layer norms."""

    def dim_of_samples(self, shape: torch.Size, samples: int) -> int | None:
        """The dimension of an input of this shape that can be that of the samples, or None."""
        return 0 if shape[:1] == (samples,) else None

    def check_batch(self, selection: Resolved, n: int) -> None:
        """Raise RouteError if a selection by sample or a Split does not cover the batch of n samples."""
        if isinstance(selection, tuple):
            total = sum(size for _, size in selection)
            if total != n:
                parts = ", ".join(f"{self.router.names[route]}={size}" for route, size in selection)
                raise RouteError(
                    f"Split({parts}) covers {total} samples and the batch has {n}; make them "
                    f"equal{_folded(n, total)}"
                )
        elif isinstance(selection, Tensor) and not is_blend(selection) and len(selection) != n:
            what = ("vectors", "vector") if is_condition(selection) else ("per-sample routes", "route")
            raise RouteError(
                f"{len(selection)} {what[0]} for a batch of {n}; give one {what[1]} per "
                f"sample{_folded(n, len(selection))}"
            )

    def as_plain(self, selection: Resolved, tied: Tied) -> nn.Module:
        """The plain layer, without children and hooks, that computes a whole-batch selection of this one.

        `tied` holds the parameters made so far, so that tied parameters stay tied.
        Raises ConversionError if torch has no such layer.
        """
        if self.condition_gain is not None and selection is not None:
            raise ConversionError(
                f"{type(self).__name__} takes its affine from a vector for each sample, which no plain "
                "layer does; bake None, the shared affine only"
            )
        new: Any = self._fresh() if self.skeleton is None else hollow(self.skeleton)
        new.training, new.eps = self.training, self.eps
        own = {name: self._parameters[name] for name in ("weight", "route_weight", "bias", "route_bias")}
        for name, value in zip(("weight", "bias"), self.effective_affine(selection), strict=True):
            if value is None:
                new._parameters[name] = None
                continue
            sources = [own[key] for key in (own if name == "bias" else ("weight", "route_weight"))]
            key = (name == "bias", *map(id, sources))
            if key not in tied:
                trained = any(source.requires_grad for source in sources if source is not None)
                tied[key] = nn.Parameter(value.detach().clone(), requires_grad=trained)
            new._parameters[name] = tied[key]
        return new  # type: ignore[no-any-return]

    def _fresh(self) -> nn.Module:
        """Torch's layer for a routed layer that was built by hand."""
        raise ConversionError(
            f"{type(self).__name__} built by hand has no counterpart in torch; "
            "build the model with plain layers and convert it, and it bakes back to these"
        )

    def plain_layer(self) -> nn.Module | None:
        """A plain layer that computes the current selection; None if the selection differs by sample."""
        if not is_whole_batch(self.router.selection):
            return None
        with torch.no_grad():
            new = self.as_plain(self.router.selection, {})
        new._modules.update(copy.deepcopy(self.modules_beside_affine()))
        return new

    def modules_beside_affine(self) -> dict[str, nn.Module | None]:
        """Children that a plain counterpart has too."""
        return {
            name: m for name, m in self._modules.items() if name not in ("condition_gain", "condition_bias")
        }

    def finish(self, y: Tensor) -> Tensor:
        """Apply what a fused layer of the original network did after its norm (activation, dropout)."""
        for name in self.after:
            y = getattr(self, name)(y)
        return y

    def extra_repr(self) -> str:
        """Routes and switches, for print(model)."""
        if self.router.condition is not None:
            return f"condition={self.router.condition}, affine={self.affine}"
        routes = self.router.names if len(self.router) <= 4 else len(self.router)
        return f"routes={routes}, affine={self.affine}"


def _folded(n: int, samples: int) -> str:
    """Advice if the network makes several rows of each sample: windows, patches, frames."""
    if not samples or n == samples or n % samples:
        return ""
    return (
        f". If the network folds {n // samples} windows or frames of each sample into the batch, use one "
        "route per forward: method.forward=separate in training"
    )


def check_features(num_features: int) -> None:
    """Raise RouteError unless num_features is a positive whole number."""
    a_whole_number("num_features", num_features, RouteError)
