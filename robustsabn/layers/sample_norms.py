"""Routed layer, group and instance normalisation: statistics of each sample; only the affine has routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustsabn.arguments import a_number, a_tensor, a_whole_number
from robustsabn.devices import autocast_dtype
from robustsabn.errors import RouteError
from robustsabn.layers.affine import Affine, Init
from robustsabn.layers.base import RoutedNorm, check_features
from robustsabn.layers.batch_dim import batch_dim, check_samples_first
from robustsabn.layers.checks import check_dtype
from robustsabn.layers.moments import torch_batch_norm, wide
from robustsabn.routing import Resolved, Router, current_selection, is_whole_batch, record_selection

__all__ = [
    "RoutedGroupNorm",
    "RoutedInstanceNorm1d",
    "RoutedInstanceNorm2d",
    "RoutedInstanceNorm3d",
    "RoutedLayerNorm",
]


class _SampleNorm(RoutedNorm):
    """Normalises every sample by itself; the affine of a route has the shape S of the plain parameters."""

    eps: float

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` through the selected route."""
        x = input
        a_tensor("the input", x, RouteError)
        selection, _ = current_selection(self.router)
        dim = 0 if is_whole_batch(selection) else self._batch_dim(x, selection)
        x = x.movedim(dim, 0) if dim else x
        self.check_batch(selection, len(x))
        scale, shift = self.per_sample_affine(selection)
        if scale is None or scale.ndim == len(self.shape):
            y = self._plain(x, scale, shift)
        else:
            y = self._per_sample(x, scale, shift)
        y = y.movedim(0, dim) if dim else y
        record_selection(self.router, selection, y)
        return self.finish(y)

    def _batch_dim(self, x: Tensor, selection: Resolved) -> int:
        """The dimension of the samples."""
        if not torch.compiler.is_compiling() and self.batch_dim is None:
            check_samples_first(self, x, selection)
        return 0

    def _plain(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """Torch's own function with an affine of shape S."""
        raise TypeError("defined by the layers")

    def _per_sample(self, x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        """Normalise, then apply an affine (N, *S), in float32 or wider; the result has torch's dtype."""
        if autocast_dtype(x.device.type) is None:
            check_dtype(self, x, scale.dtype)
        exact = x.to(wide(x.dtype))
        xhat, scale = self._plain(exact, None, None), self._over(scale, exact)
        y = xhat * scale if shift is None else torch.addcmul(self._over(shift, exact), xhat, scale)
        if exact is x:
            return y
        # autocast on CUDA gives float32 for some functions, and the dtype of x for others
        return y.to(self._plain(x[:1].detach(), None, None).dtype)

    def _over(self, v: Tensor, x: Tensor) -> Tensor:
        """A per-sample affine (N, C) in the dtype of x, shaped to broadcast over x (N, C, *)."""
        return v.to(x.dtype).reshape(*v.shape, *(1,) * (x.ndim - 2))


class RoutedLayerNorm(_SampleNorm, nn.LayerNorm):
    """Layer normalisation with a routed affine, of x (N, *, *normalized_shape), or (N, C, *) with
    `channels_first`.

    `affine`, `condition`, `routes` and `router` are those of `RoutedBatchNorm`. With routes by sample and x
    (L, N, *normalized_shape), as in torch's attention by default, `batch_dim` is 1: it is found
    automatically, or set. Raises RouteError for wrong arguments and shapes. Source: arXiv 1607.06450; the
    affine is that of arXiv 2102.11382.

    Example:

        >>> import torch
        >>> from robustsabn import RoutedLayerNorm, route
        >>> layer = RoutedLayerNorm(16, ("clean", "adv"))
        >>> with route(layer, "adv"):
        ...     y = layer(torch.rand(4, 10, 16))
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        routes: int | Sequence[str] = ("clean", "adv"),
        *,
        affine: Affine = "sandwich",
        condition: int | None = None,
        eps: float = 1e-5,
        bias: bool = True,
        channels_first: bool = False,
        init: Init = "identity",
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        a_number("eps", eps, RouteError)
        alone: Any = normalized_shape
        shape: tuple[int, ...] = (alone,)  # refused below unless a number
        if isinstance(normalized_shape, Sequence) and not isinstance(normalized_shape, (str, bytes)):
            shape = tuple(normalized_shape)
        if not shape:
            raise RouteError("normalized_shape is empty; give the sizes of the last dimensions")
        for size in shape:
            check_features(size)
        if channels_first and len(shape) != 1:
            raise RouteError(
                f"normalized_shape={shape} with channels_first; give only the number of channels"
            )
        RoutedNorm.__init__(
            self,
            shape,
            routes,
            affine,
            condition=condition,
            bias=bias,
            init=init,
            router=router,
            device=device,
            dtype=dtype,
        )
        self.normalized_shape, self.eps, self.channels_first = shape, eps, channels_first

    def _batch_dim(self, x: Tensor, selection: Resolved) -> int:
        return super()._batch_dim(x, selection) if self.channels_first else batch_dim(self, x, selection)

    def dim_of_samples(self, shape: torch.Size, samples: int) -> int | None:
        if self.channels_first:
            return super().dim_of_samples(shape, samples)
        fitting = [dim for dim in range(len(shape) - len(self.shape)) if shape[dim] == samples]
        return fitting[0] if len(fitting) == 1 else None

    def _plain(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        if not self.channels_first:
            return F.layer_norm(x, self.shape, scale, shift, self.eps)
        return F.layer_norm(x.movedim(1, -1), self.shape, scale, shift, self.eps).movedim(-1, 1)

    def _over(self, v: Tensor, x: Tensor) -> Tensor:
        if self.channels_first:
            return super()._over(v, x)
        return v.to(x.dtype).reshape(v.shape[0], *(1,) * (x.ndim - v.ndim), *self.shape)

    def extra_repr(self) -> str:
        return f"{self.shape}, eps={self.eps}, " + super().extra_repr()

    def _fresh(self) -> nn.Module:
        if self.channels_first:
            return super()._fresh()
        return nn.LayerNorm(list(self.shape), elementwise_affine=self.affine != "none", device="meta")


class RoutedGroupNorm(_SampleNorm, nn.GroupNorm):
    """Group normalisation with a routed affine, of x (N, C, *).

    `affine`, `condition`, `routes` and `router` are those of `RoutedBatchNorm`. Raises RouteError for wrong
    arguments and shapes. Source: arXiv 1803.08494; the affine is that of arXiv 2102.11382.

    Example:

        >>> import torch
        >>> from robustsabn import RoutedGroupNorm, route
        >>> layer = RoutedGroupNorm(2, 8, ("clean", "adv"))
        >>> with route(layer, torch.tensor([0, 1, 1])):
        ...     y = layer(torch.rand(3, 8, 4, 4))
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        routes: int | Sequence[str] = ("clean", "adv"),
        *,
        affine: Affine = "sandwich",
        condition: int | None = None,
        eps: float = 1e-5,
        bias: bool = True,
        init: Init = "identity",
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_features(num_channels)
        a_number("eps", eps, RouteError)
        if a_whole_number("num_groups", num_groups, RouteError) < 1 or num_channels % num_groups:
            raise RouteError(
                f"{num_channels} channels in {num_groups} groups; give a number of groups that divides the "
                "channels"
            )
        RoutedNorm.__init__(
            self,
            (num_channels,),
            routes,
            affine,
            condition=condition,
            bias=bias,
            init=init,
            router=router,
            device=device,
            dtype=dtype,
        )
        self.eps, self.num_groups, self.num_channels = eps, num_groups, num_channels

    def _plain(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise RouteError(
                f"{type(self).__name__} of {self.num_channels} channels got an input of shape "
                f"{tuple(x.shape)}; give (N, {self.num_channels}, *)"
            )
        return F.group_norm(x, self.num_groups, scale, shift, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, " + super().extra_repr()

    def _fresh(self) -> nn.Module:
        return nn.GroupNorm(self.num_groups, self.num_channels, affine=self.affine != "none", device="meta")


class _RoutedInstanceNorm(_SampleNorm):
    torch_layer: ClassVar[type[nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d]]
    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        routes: int | Sequence[str] = ("clean", "adv"),
        *,
        affine: Affine = "sandwich",
        condition: int | None = None,
        eps: float = 1e-5,
        bias: bool = True,
        init: Init = "identity",
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_features(num_features)
        a_number("eps", eps, RouteError)
        RoutedNorm.__init__(
            self,
            (num_features,),
            routes,
            affine,
            condition=condition,
            bias=bias,
            init=init,
            router=router,
            device=device,
            dtype=dtype,
        )
        self.eps, self.num_features = eps, num_features

    def _check_input(self, x: Tensor) -> None:
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise RouteError(
                f"{type(self).__name__} got an input of shape {tuple(x.shape)}; give {self.ranks[0]} "
                f"dimensions, (N, C, *), with C = {self.num_features}"
            )

    def _plain(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        self._check_input(x)
        return F.instance_norm(x, None, None, scale, shift, True, 0.0, self.eps)

    def _per_sample(self, x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
        self._check_input(x)
        autocast = autocast_dtype(x.device.type)
        exact = x.dtype == scale.dtype == wide(x.dtype) and not autocast
        if not exact or x.shape[2:].numel() < 2 or not len(x):
            return super()._per_sample(x, scale, shift)
        # As torch's instance norm: batch norm of one sample with N C channels, each with its own affine.
        flat, bias = x.reshape(1, -1, *x.shape[2:]), None if shift is None else shift.reshape(-1)
        y = torch_batch_norm(flat, None, None, scale.reshape(-1), bias, True, 0.0, self.eps)
        return y.view(x.shape)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, " + super().extra_repr()

    def _fresh(self) -> nn.Module:
        return self.torch_layer(self.num_features, affine=self.affine != "none", device="meta")


class RoutedInstanceNorm1d(_RoutedInstanceNorm, nn.InstanceNorm1d):
    """Instance normalisation with a routed affine, of x (N, C, L); see `RoutedInstanceNorm2d`.

    Example:

        >>> import torch
        >>> from robustsabn import RoutedInstanceNorm1d, route
        >>> layer = RoutedInstanceNorm1d(8, ("clean", "adv"))
        >>> with route(layer, "adv"):
        ...     y = layer(torch.rand(3, 8, 10))
    """

    torch_layer = nn.InstanceNorm1d
    ranks = (3,)


class RoutedInstanceNorm2d(_RoutedInstanceNorm, nn.InstanceNorm2d):
    """Instance normalisation with a routed affine, of x (N, C, H, W).

    `affine`, `condition`, `routes` and `router` are those of `RoutedBatchNorm`. There are no running
    statistics. Raises RouteError for wrong arguments and shapes. Source: arXiv 1607.08022; the affine is that
    of arXiv 2102.11382.

    Example:

        >>> import torch
        >>> from robustsabn import RoutedInstanceNorm2d, route
        >>> layer = RoutedInstanceNorm2d(8, ("clean", "adv"))
        >>> with route(layer, torch.tensor([0, 1, 1])):
        ...     y = layer(torch.rand(3, 8, 4, 4))
    """

    torch_layer = nn.InstanceNorm2d
    ranks = (4,)


class RoutedInstanceNorm3d(_RoutedInstanceNorm, nn.InstanceNorm3d):
    """Instance normalisation with a routed affine, of x (N, C, D, H, W); see `RoutedInstanceNorm2d`.

    Example:

        >>> import torch
        >>> from robustsabn import RoutedInstanceNorm3d, route
        >>> layer = RoutedInstanceNorm3d(8, ("clean", "adv"))
        >>> with route(layer, "adv"):
        ...     y = layer(torch.rand(3, 8, 2, 4, 4))
    """

    torch_layer = nn.InstanceNorm3d
    ranks = (5,)
