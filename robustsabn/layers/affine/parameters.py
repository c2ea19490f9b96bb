"""The affine of a routed layer: shared, per route, or both; how it is composed, stored and loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_device, a_dtype
from robustsabn.errors import RouteError
from robustsabn.layers.affine.compose import compose, mixed, repeat_parts, rows_of
from robustsabn.layers.affine.condition import affine_of_condition, linear_map
from robustsabn.layers.affine.effective import effective
from robustsabn.routing import Resolved, Router, is_blend
from robustsabn.text import quote

__all__ = ["Affine", "Init", "RoutedAffine", "Statistics"]

Affine = Literal["shared", "independent", "sandwich", "none"]
Statistics = Literal["shared", "per_route"]
Init = Literal["identity", "paper"]


class RoutedAffine(nn.Module):
    """Parameters of `y = g_r * (g_s * xhat + b_s) + b_r`.

    - `weight`, `bias` of shape S: the shared affine (g_s, b_s), with affine "shared" and "sandwich". As
      attributes they give the effective affine of the selected route, read only.
    - `route_weight`, `route_bias`: the affines (g_r, b_r) of the routes, with "independent" and "sandwich".
      As parameters they have one dimension, so that tools which exempt vectors from weight decay exempt them;
      as attributes they are views (R, *S).
    - `condition_gain`, `condition_bias`: with `condition=D`, linear maps from D to S without biases, instead
      of the tables: g = 1 + W_g y and b = W_b y for the vector y of each sample (BigGAN, arXiv 1809.11096).
      Spectral norm does not work on a map of zeros: initialise it first,
      `nn.init.orthogonal_(layer.condition_bias.weight)`.
    """

    _version = 1
    statistics: Statistics = "shared"

    def __init__(
        self,
        shape: Sequence[int],
        routes: int | Sequence[str],
        affine: Affine,
        *,
        condition: int | None = None,
        bias: bool = True,
        init: Init = "identity",
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)  # not that of torch's layer, from which subclasses also inherit
        if not isinstance(affine, str) or affine not in ("shared", "independent", "sandwich", "none"):
            raise RouteError(f"affine={quote(affine)}; allowed: shared, independent, sandwich, none")
        if router is not None and not isinstance(router, Router):
            raise RouteError(
                f"router is {quote(router)}; give the robustsabn.Router of the model, or leave it out"
            )
        device = None if device is None else a_device(device, RouteError)
        dtype = None if dtype is None else a_dtype(dtype, RouteError)
        if router is None:
            router = Router(routes, condition=condition)
        elif router.condition != condition:
            raise RouteError(
                f"condition={condition} with {router!r}; give all layers of a router the same condition"
            )
        self.router = router
        self.affine = affine
        self.shape = tuple(shape)
        self.after: tuple[str, ...] = ()
        shared = affine in ("shared", "sandwich")
        table = self.has_route_affine and condition is None
        sizes = {
            "weight": shared,
            "bias": shared and bias,
            "route_weight": table,
            "route_bias": table and bias,
        }
        for name, present in sizes.items():
            size = (len(self.router) * math.prod(shape),) if name.startswith("route") else self.shape
            empty = torch.empty(size, device=device, dtype=dtype) if present else None
            self._parameters[name] = None if empty is None else nn.Parameter(empty)
        for name, present in (("condition_gain", True), ("condition_bias", bias)):
            linear = None
            if condition is not None and self.has_route_affine and present:
                linear = linear_map(condition, shape, device, dtype)
            setattr(self, name, linear)
        self.reset_affine(init)

    condition_gain: nn.Linear | None
    condition_bias: nn.Linear | None
    # Any, as torch's layers declare parameters, and a flag for `affine`
    affine: Any
    weight: Any = property(lambda self: effective(self, "weight"), doc="Effective scale (*S), read only.")
    bias: Any = property(lambda self: effective(self, "bias"), doc="Effective shift (*S), read only.")

    def __setattr__(self, name: str, value: Any) -> None:
        """Replicas of `nn.DataParallel` get tensors instead of parameters."""
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
        """As in torch, also called by `layer.weight = nn.Parameter(...)`; RouteError for another shape."""
        own = self._parameters.get(name)
        affine = name in ("weight", "bias", "route_weight", "route_bias")
        if affine and param is not None and (own is None or own.shape != param.shape):
            shapes = [f"{key} {tuple(p.shape)}" for key, p in self._parameters.items() if p is not None]
            raise RouteError(
                f"{name} {tuple(param.shape)} in a {type(self).__name__} with affine={self.affine!r}, "
                f"whose parameters are {', '.join(shapes) or 'none'}; give one of these shapes"
            )
        nn.Module.register_parameter(self, name, param)

    @property
    def has_shared_affine(self) -> bool:
        """Whether route None (shared affine only) is defined."""
        return bool(self.affine != "independent")

    @property
    def has_route_affine(self) -> bool:
        """Whether the affine depends on the route or on a vector."""
        return self.affine in ("independent", "sandwich")

    @property
    def affine_dtype(self) -> torch.dtype | None:
        """The dtype of the parameters; None without any."""
        maps = () if self.condition_gain is None else self.condition_gain.parameters()
        own = (self._parameters["route_weight"], self._parameters["weight"], *maps)
        return next((t.dtype for t in own if t is not None), None)

    def reset_affine(self, init: Init) -> None:
        """Initialise: "identity" with ones and zeros; "paper" with scales from N(1, 0.02), as the official
        code.

        Linear maps of a vector become zeros; with "paper" W_g is drawn from N(0, 0.02).
        """
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
        for linear, noise in ((self.condition_gain, 0.02 if noisy else 0.0), (self.condition_bias, 0.0)):
            if linear is not None:
                nn.init.normal_(linear.weight, 0.0, noise)

    def reset_parameters(self) -> None:
        """Set affines to ones and zeros for all routes, as torch's layers do when they are built."""
        self.reset_affine("identity")

    def effective_affine(self, selection: Resolved) -> tuple[Tensor | None, Tensor | None]:
        """Scale G and shift B of a selection: S for the whole batch, (N, *S) per sample, (P, *S) per part.

        G_r = g_r * g_s and B_r = g_r * b_s + b_r, the two affines of SaBN (arXiv 2102.11382) as one.
        """
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        if not self.has_route_affine or selection is None:
            if not self.has_shared_affine:
                raise RouteError("route None in a layer without shared affine; select a route")
            return weight, bias
        if self.condition_gain is not None:
            return compose(*affine_of_condition(self, selection), weight, bias)
        if isinstance(selection, int):
            row = self._row_of("route_weight", selection)
            assert row is not None
            return compose(row, self._row_of("route_bias", selection), weight, bias)
        g, b = self.route_weight, self.route_bias
        assert g is not None
        if is_blend(selection):  # the mean of composed affines
            g, b = compose(g, b, weight, bias)
            return mixed(selection, g), None if b is None else mixed(selection, b)
        return compose(rows_of(g, selection), None if b is None else rows_of(b, selection), weight, bias)

    def _row_of(self, name: str, index: int) -> Tensor | None:
        """A row of a table: one step of autograd instead of two for a row of a view."""
        table = self._parameters[name]
        if table is None:
            return None
        if table.ndim > 1 or len(self.shape) > 1:
            return table.view(len(self.router), *self.shape).select(0, index)
        size = math.prod(self.shape)
        return table.narrow(0, index * size, size)

    def per_sample_affine(self, selection: Resolved) -> tuple[Tensor | None, Tensor | None]:
        """As `effective_affine`, with the rows of a Split's parts repeated for their samples."""
        scale, shift = self.effective_affine(selection)
        if isinstance(selection, tuple) and self.has_route_affine:
            assert scale is not None
            scale = repeat_parts(scale, selection)
            shift = None if shift is None else repeat_parts(shift, selection)
        return scale, shift

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
        """Load a routed layout, or the entries of a plain norm, from which then every route starts."""
        tables = [name for name in ("route_weight", "route_bias") if self._parameters[name] is not None]
        started = not any(prefix + name in state_dict for name in tables)
        for name in tables:
            key, plain, own = prefix + name, prefix + name.removeprefix("route_"), self._rows_of(name)
            assert own is not None
            if started and self.affine == "sandwich" and plain in state_dict:
                state_dict[key] = (torch.zeros_like if name == "route_bias" else torch.ones_like)(own)
            elif started and plain in state_dict:
                state_dict[key] = state_dict.pop(plain).expand_as(own)
            value = state_dict.get(key)
            if isinstance(value, Tensor) and value.ndim > 1:
                if value.shape != own.shape:
                    error_msgs.append(
                        f"size mismatch for {key}: {tuple(value.shape)} given, {tuple(own.shape)} here"
                    )
                state_dict[key] = (value if value.shape == own.shape else own).detach().flatten()
        for name, buffer in self._buffers.items():
            value = state_dict.get(prefix + name)
            if name == "num_batches_tracked" and value is None and prefix + "running_mean" in state_dict:
                value = state_dict[prefix + name] = torch.zeros((), dtype=torch.long)  # files of torch 0.4
            if buffer is not None and value is not None and value.ndim == buffer.ndim - 1:
                state_dict[prefix + name] = value.expand_as(buffer)
        nn.Module._load_from_state_dict(
            self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        nn.Module._save_to_state_dict(self, destination, prefix, keep_vars)
        for name in ("route_weight", "route_bias"):
            if prefix + name in destination:
                destination[prefix + name] = destination[prefix + name].view(len(self.router), *self.shape)
