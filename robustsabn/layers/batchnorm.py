"""Routed batch normalisation in one, two and three spatial dimensions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_number, a_tensor
from robustsabn.errors import ConversionError, RouteError
from robustsabn.layers.affine import Affine, Init, Statistics
from robustsabn.layers.base import RoutedNorm, check_features
from robustsabn.layers.batch_dim import check_samples_first
from robustsabn.layers.checks import check_counts, check_dtype, check_values
from robustsabn.layers.moments import (
    Moments,
    affine_rows,
    apply_moments,
    approach,
    batch_moments,
    route_per_sample,
    torch_batch_norm,
    wide,
)
from robustsabn.layers.parts import normalise_parts
from robustsabn.layers.samples import normalise_samples
from robustsabn.layers.statistics import RunningStatistics, Update
from robustsabn.layers.sync import is_distributed, merge_moments, sync_batch_norm_cuda
from robustsabn.routing import Resolved, Router, current_selection, is_whole_batch, record_selection
from robustsabn.text import quote

__all__ = ["RoutedBatchNorm", "RoutedBatchNorm1d", "RoutedBatchNorm2d", "RoutedBatchNorm3d"]


class RoutedBatchNorm(RunningStatistics):
    """Batch normalisation whose affine and statistics can depend on the route: `y = g_r (g_s xhat + b_s) +
    b_r`.

    Input (N, C, *) with C = num_features; output of the same shape.

    - routes: names, or a number of routes; router: the `Router` that all layers of a model share.
    - statistics: "shared" keeps one set of batch and running statistics, "per_route" one per route.
    - affine: "shared", "independent" (one per route), "sandwich" (a shared one, then one per route) or
      "none".
    - condition: with D, the affine is a linear map of a vector (D,) for each sample, `route(model,
      Condition(y))`.
    - sync: compute training statistics over all processes.

    As in torch, training normalises with the biased variance, and `running_var` gets the unbiased one. Routes
    by sample with "per_route" statistics group the batch by route. A `Blend` mixes running means and
    variances with its weights and, in training, updates those of each route by weight * momentum. None takes
    the mean of the means and the variance of the equal mixture and, in training, does not update statistics
    per route. With momentum None running statistics are plain means over batches. To weight these by a
    `Blend`, set `shares`, the sums of weights so far, to zeros like `num_batches_tracked`. Raises RouteError
    for wrong arguments, shapes or dtypes. Source: SaBN, arXiv 2102.11382; auxiliary BN, arXiv 1911.09665.

    Example:

        >>> import torch
        >>> from robustsabn import Split, route
        >>> from robustsabn.layers import RoutedBatchNorm
        >>> layer = RoutedBatchNorm(8, ("clean", "adv"), statistics="per_route")
        >>> with route(layer, Split(clean=2, adv=2)):
        ...     y = layer(torch.rand(4, 8, 5, 5))
        >>> y.shape, layer.running_mean.shape
        (torch.Size([4, 8, 5, 5]), torch.Size([2, 8]))
    """

    ranks: tuple[int, ...] = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        routes: int | Sequence[str] = ("clean", "adv"),
        *,
        statistics: Statistics = "shared",
        affine: Affine = "sandwich",
        condition: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        bias: bool = True,
        init: Init = "identity",
        sync: bool = False,
        router: Router | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_features(num_features)
        a_number("eps", eps, RouteError)
        if momentum is not None:
            a_number("momentum", momentum, RouteError, most=1.0)
        if not isinstance(statistics, str) or statistics not in ("shared", "per_route"):
            raise RouteError(f"statistics={quote(statistics)}; allowed: shared, per_route")
        if condition is not None and statistics == "per_route":
            raise RouteError(
                f"condition={quote(condition)} with statistics='per_route': vectors have no routes; give "
                "statistics='shared'"
            )
        self.statistics = statistics
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
        self.num_features = num_features
        self.eps, self.momentum, self.sync = eps, momentum, sync
        self.shares = None
        self.track_running_stats = track_running_stats
        sets = (len(self.router),) if statistics == "per_route" else ()
        for name, fill in (("running_mean", 0.0), ("running_var", 1.0)):
            empty = torch.full((*sets, num_features), fill, device=device, dtype=dtype)
            self.register_buffer(name, empty if track_running_stats else None)
        counts = torch.zeros(sets, dtype=torch.long, device=device)
        self.register_buffer("num_batches_tracked", counts if track_running_stats else None)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` (N, C, *) through the selected route."""
        x = input
        selection, recomputed = current_selection(self.router)
        self._check_input(x)
        whole = is_whole_batch(selection)
        if not whole:
            self.check_batch(selection, len(x))
        batch_statistics = self.training or self.running_mean is None
        synced = self.sync and batch_statistics and is_distributed()
        if batch_statistics and not synced:
            check_values(self, x, selection, self.statistics == "per_route")
        if not (whole or torch.compiler.is_compiling() or self.batch_dim is not None):
            check_samples_first(self, x, selection)
        update: Update = "none"
        if self.training and self.track_running_stats and self.running_mean is not None:
            update = "again" if recomputed else "move"
        if self.statistics == "shared" and not self.has_route_affine:
            y = self._whole(x, 0, batch_statistics, update)  # all routes are equal
        elif isinstance(selection, tuple) and (self.statistics == "per_route" or not batch_statistics):
            # all parts in one exchange; torch's kernels take one each, and wait for the device
            if synced or self._moved_apart(update):
                y = self._samples(x, route_per_sample(selection, x.device), batch_statistics, update)
            else:
                y = self._parts(x, selection, batch_statistics, update)
        elif not whole:
            y = self._samples(x, selection, batch_statistics, update)
        else:
            y = self._whole(x, selection, batch_statistics, update)
        record_selection(self.router, selection, y)
        return self.finish(y)

    def _whole(self, x: Tensor, selection: Resolved, batch_statistics: bool, update: Update) -> Tensor:
        scale, shift = self.effective_affine(selection)
        if not batch_statistics:
            mean, var = self._running(selection)
            # a Blend with weights that require grad, or half-precision statistics mixed in float32
            if mean.requires_grad or mean.dtype != self._dtype(x):
                check_dtype(self, x, self._dtype(x))
                return apply_moments(x, mean, var, self.eps, scale, shift)
            return torch_batch_norm(x, mean, var, scale, shift, False, 0.0, self.eps)
        one = self.statistics == "shared" or isinstance(selection, int)
        if one and not self._moved_apart(update):
            tracked = self._tracked(selection if isinstance(selection, int) else 0, update)
            return self._batch_norm(x, scale, shift, *tracked)
        batch = x.new_zeros(2, self.num_features, dtype=self._dtype(x))
        y = self._batch_norm(x, scale, shift, batch[0], batch[1], 1.0)
        if update == "move" and (one or isinstance(selection, Tensor)) and (len(x) or self.sync):
            self._move(batch[0], batch[1], self._shares_of(selection, batch))
        return y

    def _parts(
        self, x: Tensor, parts: tuple[tuple[int, int], ...], batch_statistics: bool, update: Update
    ) -> Tensor:
        scale, shift = self.effective_affine(parts)
        if scale is None or scale.ndim == 1:
            ones = x.new_ones(self.num_features, dtype=self._dtype(x)) if scale is None else scale
            scale = ones.expand(len(parts), -1)
        if shift is None or shift.ndim == 1:
            shift = (torch.zeros_like(scale[0]) if shift is None else shift).expand(len(parts), -1)
        check_dtype(self, x, scale.dtype)
        if batch_statistics:
            running = [self._tracked(index, update if size else "none") for index, size in parts]
        else:
            running = [(*self._running(index), 0.0) for index, _ in parts]
        return normalise_parts(
            x, scale, shift, [size for _, size in parts], running, batch_statistics, self.eps
        )

    def _samples(self, x: Tensor, selection: Resolved, batch_statistics: bool, update: Update) -> Tensor:
        check_dtype(self, x, self._dtype(x))
        scale, shift = self.per_sample_affine(selection)
        rows = (affine_rows(scale, 1.0, x, self._dtype(x)), affine_rows(shift, 0.0, x, self._dtype(x)))
        per_route = self.statistics == "per_route"
        groups = selection.to(x.device) if per_route and isinstance(selection, Tensor) else None
        if not batch_statistics:
            mean, var = self.running_mean, self.running_var
            if groups is None:
                mean, var = (t.unsqueeze(0) for t in self._running(None))
            assert mean is not None
            assert var is not None
            return normalise_samples(x, *rows, self.eps, groups, known=(mean, var))[0]
        sets = 1 if groups is None else len(self.router)
        if self.sync and is_distributed():
            exact = x.to(wide(x.dtype))  # both uses of x are added up in the backward
            moments = self._merged(exact, groups, sets)
            mean, var = (m if groups is None else m[groups] for m in moments[1:])
            y = apply_moments(exact, mean, var, self.eps, scale, shift).to(x.dtype)
        else:
            y, own = normalise_samples(x, *rows, self.eps, groups, sets=sets)
            assert own is not None
            moments = own
        if update == "move":
            self._track_moments(moments)
        return y

    def _batch_norm(
        self,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        mean: Tensor | None,
        var: Tensor | None,
        momentum: float,
    ) -> Tensor:
        """Normalise by batch statistics of all of x; mean and var, if given, are updated in place."""
        if not (self.sync and is_distributed()):
            return torch_batch_norm(x, mean, var, scale, shift, True, momentum, self.eps)
        if x.is_cuda:
            return sync_batch_norm_cuda(x, scale, shift, mean, var, momentum, self.eps)
        exact = x.to(wide(x.dtype))  # both uses of x are added up in the backward
        count, batch_mean, batch_var = self._merged(exact)
        if mean is not None and var is not None:
            unbiased = batch_var * (count / (count - 1).clamp(min=1)).unsqueeze(1)
            step = momentum * (count[0] > 0)
            approach(mean, batch_mean[0].detach(), step)
            approach(var, unbiased[0].detach(), step)
        return apply_moments(exact, batch_mean, batch_var, self.eps, scale, shift).to(x.dtype)

    def _merged(self, x: Tensor, groups: Tensor | None = None, sets: int = 1) -> Moments:
        """Moments over all processes; RouteError on each of them if there is only one value per channel."""
        moments = merge_moments(batch_moments(x, groups, sets))
        if x.shape[2:].numel() == 1:
            check_counts(self, moments[0])
        return moments

    def _dtype(self, x: Tensor) -> torch.dtype:
        """The dtype of parameters and statistics."""
        if self.running_mean is not None:
            return self.running_mean.dtype
        return self.affine_dtype or wide(x.dtype)

    def _check_input(self, x: Tensor) -> None:
        if a_tensor("the input", x, RouteError).ndim not in self.ranks or x.shape[1] != self.num_features:
            allowed = " or ".join(f"{rank}-D" for rank in self.ranks)
            raise RouteError(
                f"{type(self).__name__} of {self.num_features} channels got an input of shape "
                f"{tuple(x.shape)}; give a {allowed} tensor with {self.num_features} channels in dimension 1"
            )

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Refuse `convert_sync_batchnorm` of this layer itself, which calls this last and loses routes."""
        code = nn.SyncBatchNorm.convert_sync_batchnorm.__func__.__code__  # type: ignore[attr-defined]
        caller = sys._getframe(1)
        if caller.f_code is code and (caller.f_back is None or caller.f_back.f_code is not code):
            raise ConversionError(
                f"convert_sync_batchnorm was given a {type(self).__name__} itself, and its routes would be "
                "lost; set layer.sync = True, or give it the model that contains the layer"
            )
        return super().named_children()

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, statistics={self.statistics}, "
            + super().extra_repr()
        )


class RoutedBatchNorm1d(RoutedBatchNorm, nn.BatchNorm1d):
    """`RoutedBatchNorm`, which see, for inputs (N, C) or (N, C, L).

    Example:

        >>> import torch
        >>> from robustsabn import RoutedBatchNorm1d, route
        >>> layer = RoutedBatchNorm1d(8, ("clean", "adv"), affine="independent")
        >>> with route(layer, torch.tensor([0, 1, 1, 0])):
        ...     y = layer(torch.rand(4, 8))
    """

    torch_layer = nn.BatchNorm1d
    ranks = (2, 3)


class RoutedBatchNorm2d(RoutedBatchNorm, nn.BatchNorm2d):
    """`RoutedBatchNorm`, which see, for inputs (N, C, H, W).

    Example:

        >>> import torch
        >>> from robustsabn import RoutedBatchNorm2d, route
        >>> layer = RoutedBatchNorm2d(8, ("clean", "adv"), statistics="per_route", affine="sandwich")
        >>> with route(layer, "adv"):
        ...     y = layer(torch.rand(4, 8, 5, 5))
        >>> layer.num_batches_tracked.tolist()
        [0, 1]
    """

    torch_layer = nn.BatchNorm2d
    ranks = (4,)


class RoutedBatchNorm3d(RoutedBatchNorm, nn.BatchNorm3d):
    """`RoutedBatchNorm`, which see, for inputs (N, C, D, H, W).

    Example:

        >>> import torch
        >>> from robustsabn import RoutedBatchNorm3d, route
        >>> layer = RoutedBatchNorm3d(8, routes=3)
        >>> with route(layer, 2):
        ...     y = layer(torch.rand(4, 8, 2, 5, 5))
    """

    torch_layer = nn.BatchNorm3d
    ranks = (5,)
