"""What all routed normalisation layers share: the affine parameters, their composition, loading, route lookup."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_device, a_dtype, a_whole_number
from robustsabn.errors import ConversionError, RouteError
from robustsabn.layers.effective import effective
from robustsabn.layers.moments import wide
from robustsabn.routing import Resolved, Router, is_whole_batch
from robustsabn.surgery import hollow
from robustsabn.text import quote

__all__ = ["Affine", "Init", "RoutedNorm", "Statistics", "Tied"]

Affine = Literal["shared", "independent", "sandwich", "none"]
Statistics = Literal["shared", "per_route"]
Init = Literal["identity", "paper"]

Tied = dict[tuple[int, ...], nn.Parameter]
"""Parameters of plain layers made so far, by the parameters that they come from."""


class RoutedNorm(nn.Module):
    """Base of the routed layers: `y = g_r * (g_s * xhat + b_s) + b_r`, composed at parameter size.

    Parameters `weight`, `bias` of shape S are the shared affine (g_s, b_s), present for `shared` and `sandwich`;
    `route_weight`, `route_bias` are the route affines (g_r, b_r), present for `independent` and `sandwich`, route by
    route in one dimension: tools that spare vectors from weight decay spare them. The attributes of these names are views
    (R, *S); the attributes `weight` and `bias` are the effective affine of the route in force, read only.
    """

    _version = 1
    statistics: Statistics = "shared"
    skeleton: nn.Module | None = None
    """The plain layer this one was converted from, without tensors, children and hooks; kept out of the module tree."""
    batch_dim: int | None = None
    """The dimension of the samples, once known: 0 but for layer norms."""

    def __init__(
        self,
        shape: Sequence[int],
        routes: int | Sequence[str],
        affine: Affine,
        *,
        bias: bool = True,
        init: Init = "identity",
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)  # not that of torch's layer, which the subclasses are as well
        if not isinstance(affine, str) or affine not in ("shared", "independent", "sandwich", "none"):
            raise RouteError(f"affine={quote(affine)}; allowed: shared, independent, sandwich, none")
        if router is not None and not isinstance(router, Router):
            raise RouteError(
                f"router is {quote(router)}; give the robustsabn.Router of the model, or leave it out"
            )
        device = None if device is None else a_device(device, RouteError)
        dtype = None if dtype is None else a_dtype(dtype, RouteError)
        self.router = Router(routes) if router is None else router
        self.affine = affine
        self.shape = tuple(shape)
        self.after: tuple[str, ...] = ()
        shared, routed = affine in ("shared", "sandwich"), affine in ("independent", "sandwich")
        sizes = {
            "weight": shared,
            "bias": shared and bias,
            "route_weight": routed,
            "route_bias": routed and bias,
        }
        for name, present in sizes.items():
            size = (len(self.router) * math.prod(shape),) if name.startswith("route") else self.shape
            empty = torch.empty(size, device=device, dtype=dtype) if present else None
            self._parameters[name] = None if empty is None else nn.Parameter(empty)
        self.reset_affine(init)

    # Any, as torch's layers declare parameters, and a flag for `affine`
    affine: Any
    weight: Any = property(lambda self: effective(self, "weight"), doc="Effective scale (*S), read only.")
    bias: Any = property(lambda self: effective(self, "bias"), doc="Effective shift (*S), read only.")

    def __setattr__(self, name: str, value: Any) -> None:
        """A replica of `nn.DataParallel` is given tensors in place of its parameters."""
        if name in ("weight", "bias", "route_weight", "route_bias") and "_is_replica" in self.__dict__:
            self._parameters[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def route_weight(self) -> Tensor | None:
        """The scales (R, *S) of the routes, a view of the parameter."""
        return self._rows_of("route_weight")

    @property
    def route_bias(self) -> Tensor | None:
        """The shifts (R, *S) of the routes, a view of the parameter."""
        return self._rows_of("route_bias")

    def _rows_of(self, name: str) -> Tensor | None:
        table = self._parameters[name]
        return None if table is None else table.view(len(self.router), *self.shape)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Also what `layer.weight = nn.Parameter(...)` does; RouteError for a shape that the layer does not have."""
        own = self._parameters.get(name)
        affine = name in ("weight", "bias", "route_weight", "route_bias")
        if affine and param is not None and (own is None or own.shape != param.shape):
            shapes = [f"{key} {tuple(p.shape)}" for key, p in self._parameters.items() if p is not None]
            raise RouteError(
                f"{name} {tuple(param.shape)} in a {type(self).__name__} with affine={self.affine!r}, "
                f"whose parameters are {', '.join(shapes) or 'none'}"
            )
        nn.Module.register_parameter(self, name, param)

    @property
    def has_shared_affine(self) -> bool:
        """Whether route None (shared affine only) is defined."""
        return bool(self.affine != "independent")

    def reset_affine(self, init: Init) -> None:
        """`identity`: ones and zeros. `paper`: the scales that the official code draws from N(1, 0.02)."""
        if not isinstance(init, str) or init not in ("identity", "paper"):
            raise RouteError(f"init={quote(init)}; allowed: identity, paper")
        noisy = init == "paper" and not (
            self.affine == "shared" or (self.affine == "independent" and self.statistics == "per_route")
        )
        for name in ("weight", "route_weight", "bias", "route_bias"):
            parameter = self._parameters[name]
            if parameter is not None and not name.endswith("bias") and noisy:
                nn.init.normal_(parameter, 1.0, 0.02)
            elif parameter is not None:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)

    def reset_parameters(self) -> None:
        """What torch's layers do when they are built: affines of ones and zeros, on all routes."""
        self.reset_affine("identity")

    def effective_affine(self, selection: Resolved) -> tuple[Tensor | None, Tensor | None]:
        """Scale G and shift B of a selection: shape S for a whole-batch one, (N, *S) per sample, (P, *S) per part.

        G_r = g_r * g_s and B_r = g_r * b_s + b_r (SaBN, arXiv 2102.11382, with the two affines folded).
        """
        g, b = self.route_weight, self.route_bias
        if g is None or selection is None:
            if not self.has_shared_affine:
                raise RouteError("route None on a layer without shared affine; select a route")
            return self._parameters["weight"], self._parameters["bias"]
        if isinstance(selection, Tensor) and selection.is_floating_point():
            g, b = self._composed(g, b)
            return mixed(selection, g), None if b is None else mixed(selection, b)
        if isinstance(selection, int):  # select is several times cheaper than indexing
            return self._composed(g.select(0, selection), None if b is None else b.select(0, selection))
        if isinstance(selection, Tensor):
            selection = selection.to(g.device)  # a model may lie on several
            return self._composed(g[selection], None if b is None else b[selection])
        # not g[list]: on CUDA that copies the list from the host, and waits
        rows = [None if t is None else torch.stack([t.select(0, r) for r, _ in selection]) for t in (g, b)]
        assert rows[0] is not None
        return self._composed(rows[0], rows[1])

    def _composed(self, g: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Fold the shared affine, where there is one, under route affines g, b."""
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        if weight is None:
            return g, b
        if b is not None and bias is not None:
            b = torch.addcmul(b, g, bias)
        return g * weight, b

    def per_sample_affine(self, selection: Resolved) -> tuple[Tensor | None, Tensor | None]:
        """Like `effective_affine`, with the parts of a Split repeated for their samples."""
        scale, shift = self.effective_affine(selection)
        if isinstance(selection, tuple) and self.route_weight is not None:
            sizes = [size for _, size in selection]
            scale, shift = _repeat(scale, sizes), _repeat(shift, sizes)
        return scale, shift

    def dim_of_samples(self, shape: torch.Size, samples: int) -> int | None:
        """The dimension of an input of this shape that has as many entries as there are samples, if it may be theirs."""
        return 0 if shape[:1] == (samples,) else None

    def check_batch(self, selection: Resolved, n: int) -> None:
        """RouteError when a per-sample or Split selection does not cover the batch of n samples."""
        if isinstance(selection, tuple):
            total = sum(size for _, size in selection)
            if total != n:
                parts = ", ".join(f"{self.router.names[route]}={size}" for route, size in selection)
                raise RouteError(
                    f"Split({parts}) covers {total} samples and the batch has {n}; make them equal{_folded(n, total)}"
                )
        elif isinstance(selection, Tensor) and not selection.is_floating_point() and len(selection) != n:
            raise RouteError(
                f"{len(selection)} per-sample routes for a batch of {n}; give one route per sample{_folded(n, len(selection))}"
            )

    def as_plain(self, selection: Resolved, tied: Tied) -> nn.Module:
        """The plain layer, without children and hooks, that computes a whole-batch selection of this one.

        `tied` keeps the parameters made so far: those that come from the same parameters are one again.
        Raises ConversionError where torch has no such layer.
        """
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
        """Torch's own layer for a routed one that was built by hand."""
        raise ConversionError(
            f"{type(self).__name__} built by hand has no counterpart in torch; "
            "build the model with plain layers and convert it, then it bakes back to those"
        )

    def plain_layer(self) -> nn.Module | None:
        """A plain layer that does what this one does under the selection in force; None if that differs by sample."""

        if not is_whole_batch(self.router.selection):
            return None
        with torch.no_grad():
            new = self.as_plain(self.router.selection, {})
        new._modules.update(copy.deepcopy(self._modules))
        return new

    def finish(self, y: Tensor) -> Tensor:
        """What a fused layer of the original network did after its normalisation (activation, drop-out)."""
        for name in self.after:
            y = getattr(self, name)(y)
        return y

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load a routed layout, or a plain norm's entries: then every route starts from the plain layer."""
        tables = [name for name in ("route_weight", "route_bias") if self._parameters[name] is not None]
        started = not any(prefix + name in state_dict for name in tables)
        for name in tables:
            key, plain, own = prefix + name, prefix + name.removeprefix("route_"), self._rows_of(name)
            assert own is not None
            if started and self.affine == "sandwich" and plain in state_dict:
                state_dict[key] = (torch.zeros_like if name == "route_bias" else torch.ones_like)(own)
            elif started and plain in state_dict:
                state_dict[key] = state_dict.pop(plain).expand_as(own)
            given = state_dict.get(key)
            if isinstance(given, Tensor) and given.ndim > 1:
                if given.shape != own.shape:
                    error_msgs.append(
                        f"size mismatch for {key}: {tuple(given.shape)} given, {tuple(own.shape)} here"
                    )
                state_dict[key] = (given if given.shape == own.shape else own).detach().flatten()
        for name, buffer in self._buffers.items():
            given = state_dict.get(prefix + name)
            if name == "num_batches_tracked" and given is None and prefix + "running_mean" in state_dict:
                given = state_dict[prefix + name] = torch.zeros((), dtype=torch.long)  # files of torch 0.4
            if buffer is not None and given is not None and given.ndim == buffer.ndim - 1:
                state_dict[prefix + name] = given.expand_as(buffer)
        nn.Module._load_from_state_dict(
            self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        nn.Module._save_to_state_dict(self, destination, prefix, keep_vars)
        for name in ("route_weight", "route_bias"):
            if prefix + name in destination:
                destination[prefix + name] = destination[prefix + name].view(len(self.router), *self.shape)

    def extra_repr(self) -> str:
        """Routes and switches, for print(model)."""
        routes = self.router.names if len(self.router) <= 4 else len(self.router)
        return f"routes={routes}, affine={self.affine}"


def _folded(n: int, samples: int) -> str:
    """What to do where a network has made several rows of each sample: windows, patches, frames."""
    if not samples or n == samples or n % samples:
        return ""
    return (
        f". If the network folds {n // samples} windows or frames of each sample into the batch, take one route in a "
        "forward: method.forward=separate in training"
    )


def _repeat(rows: Tensor | None, sizes: list[int]) -> Tensor | None:
    if rows is None:
        return None
    return torch.cat([row.expand(size, *row.shape) for row, size in zip(rows, sizes, strict=True)])


def mixed(weights: Tensor, rows: Tensor) -> Tensor:
    """Sum over r of weights[r] rows[r]; weights (R,), rows (R, *S). Not a matrix product, which autocast rounds."""
    weights = weights.to(rows.device, wide(rows.dtype)).reshape(-1, *(1,) * (rows.ndim - 1))
    return (weights * rows).sum(0).to(rows.dtype)


def check_features(num_features: int) -> None:
    """RouteError unless num_features is a positive whole number."""
    a_whole_number("num_features", num_features, RouteError)
