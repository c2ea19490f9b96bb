"""Routed batch normalisation in one, two and three spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from robustsabn.arguments import a_number, a_tensor
from robustsabn.errors import RouteError
from robustsabn.layers.base import Affine, Init, RoutedNorm, Statistics, check_features, mixed
from robustsabn.layers.checks import check_counts, check_dtype, check_values
from robustsabn.layers.functional import (
    Moments,
    batch_moments,
    normalise_parts,
    normalise_samples,
    scale_shift,
    wide,
)
from robustsabn.layers.sync import is_distributed, merge_moments, sync_batch_norm_cuda
from robustsabn.routing import Resolved, Router, current_selection, record_selection
from robustsabn.text import quote

Update = Literal["none", "move", "again"]

__all__ = ["RoutedBatchNorm", "RoutedBatchNorm1d", "RoutedBatchNorm2d", "RoutedBatchNorm3d"]


class RoutedBatchNorm(RoutedNorm, _BatchNorm):
    """Batch normalisation whose affine and statistics may depend on the route: `y = g_r (g_s xhat + b_s) + b_r`.

    `statistics`: `shared` keeps one set of batch and running statistics, `per_route` one per route. `affine`:
    `shared`, `independent` (one per route) or `sandwich` (shared first, then one per route). Input (N, C, *).
    In training the batch is normalised with the biased variance and `running_var` receives the unbiased one, as in
    torch. Per-sample routes with `per_route` statistics group the batch by route; a `Blend` mixes running means and
    variances with its weights and, in training, moves each route's by weight * momentum; None pools them over the
    routes (variance of the equal mixture) and, in training, leaves per-route statistics untouched.
    With momentum None running statistics are plain means over batches; for the weights of a `Blend` to count in these,
    set `shares` to zeros like `num_batches_tracked`: the sums of weights so far. `sync=True` takes training statistics over all processes.
    Source: SaBN, arXiv 2102.11382; auxiliary BN, arXiv 1911.09665.
    """

    ranks: tuple[int, ...] = (2, 3, 4, 5)
    frozen = False
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        routes: int | Sequence[str] = ("clean", "adv"),
        *,
        statistics: Statistics = "shared",
        affine: Affine = "sandwich",
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
        self.statistics = statistics
        RoutedNorm.__init__(
            self,
            (num_features,),
            routes,
            affine,
            bias=bias,
            init=init,
            router=router,
            device=device,
            dtype=dtype,
        )
        self.num_features = num_features
        self.eps, self.momentum, self.sync = eps, momentum, sync
        self.shares: Tensor | None = None
        self.track_running_stats = track_running_stats
        sets = (len(self.router),) if statistics == "per_route" else ()
        for name, fill in (("running_mean", 0.0), ("running_var", 1.0)):
            empty = torch.full((*sets, num_features), fill, device=device, dtype=dtype)
            self.register_buffer(name, empty if track_running_stats else None)
        counts = torch.zeros(sets, dtype=torch.long, device=device)
        self.register_buffer("num_batches_tracked", counts if track_running_stats else None)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, *) through the selected route."""
        selection, recomputed = current_selection(self.router)
        self._check_input(x)
        self.check_batch(selection, len(x))
        batch_statistics = self.training or self.running_mean is None
        if batch_statistics and not (self.sync and is_distributed()):
            check_values(self, x, selection, self.statistics == "per_route")
        update: Update = "none"
        if self.training and self.track_running_stats and self.running_mean is not None:
            update = "again" if recomputed else "move"
        if self.statistics == "shared" and self._parameters["route_weight"] is None:
            y = self._whole(x, 0, batch_statistics, update)  # all routes are one
        elif isinstance(selection, tuple) and (self.statistics == "per_route" or not batch_statistics):
            y = self._parts(x, selection, batch_statistics, update)
        elif isinstance(selection, tuple) or (
            isinstance(selection, Tensor) and not selection.is_floating_point()
        ):
            y = self._samples(x, selection, batch_statistics, update)
        else:
            y = self._whole(x, selection, batch_statistics, update)
        record_selection(self.router, selection, y)
        return self.finish(y)

    def _whole(self, x: Tensor, selection: Resolved, batch_statistics: bool, update: Update) -> Tensor:
        scale, shift = self.effective_affine(selection)
        if not batch_statistics:
            mean, var = self._running(selection)
            if mean.requires_grad or mean.dtype != self._dtype(
                x
            ):  # a Blend whose weights are searched; half precision
                check_dtype(self, x, self._dtype(x))
                return _apply(x, mean, var, self.eps, scale, shift)
            return F.batch_norm(x, mean, var, scale, shift, False, 0.0, self.eps)
        if self.statistics == "shared" or isinstance(selection, int):
            tracked = self._tracked(selection if isinstance(selection, int) else 0, update)
            return self._batch_norm(x, scale, shift, *tracked)
        batch = x.new_zeros(2, self.num_features, dtype=self._dtype(x))
        y = self._batch_norm(x, scale, shift, batch[0], batch[1], 1.0)
        if update == "move" and isinstance(selection, Tensor):
            self._move(batch[0], batch[1], selection.detach().to(batch))
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
        if self.sync and batch_statistics and is_distributed():
            outs = []
            for i, (part, (index, _size)) in enumerate(
                zip(x.split_with_sizes([n for _, n in parts]), parts, strict=True)
            ):
                mean, var, momentum = self._tracked(index, update)
                outs.append(self._batch_norm(part, scale[i], shift[i], mean, var, momentum))
            return torch.cat(outs)
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
        routes = selection if isinstance(selection, Tensor) else None
        groups = routes if self.statistics == "per_route" else None
        if not batch_statistics:
            running, spread = self._running(None) if groups is None else self._rows(groups)
            return _apply(x, running, spread, self.eps, scale, shift)
        sets = len(self.router) if groups is not None else 1
        if not ((self.sync and is_distributed()) or torch.compiler.is_compiling()):
            rows = (_rows(scale, 1.0, x, self._dtype(x)), _rows(shift, 0.0, x, self._dtype(x)))
            y, moments = normalise_samples(x, *rows, groups, sets, self.eps)
        else:
            exact = x.to(wide(x.dtype))  # both uses of x are added up in the backward
            moments = batch_moments(exact, groups, sets)
            if self.sync and is_distributed():
                moments = merge_moments(moments)
                if x.shape[2:].numel() == 1:
                    check_counts(self, moments[0])
            _, mean, var = moments if groups is None else (None, *(m[groups] for m in moments[1:]))
            y = _apply(exact, mean, var, self.eps, scale, shift).to(x.dtype)
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
        """Batch statistics of all of x; mean and var, where given, are moved in place."""
        if not (self.sync and is_distributed()):
            return F.batch_norm(x, mean, var, scale, shift, True, momentum, self.eps)
        if x.is_cuda:
            return sync_batch_norm_cuda(x, scale, shift, mean, var, momentum, self.eps)
        count, batch_mean, batch_var = merge_moments(batch_moments(x))
        if mean is not None and var is not None:
            with torch.no_grad():
                unbiased = batch_var * (count / (count - 1).clamp(min=1)).unsqueeze(1)
                mean.lerp_(batch_mean[0].to(mean), momentum)
                var.lerp_(unbiased[0].to(var), momentum)
        return _apply(x, batch_mean, batch_var, self.eps, scale, shift)

    def _dtype(self, x: Tensor) -> torch.dtype:
        """The dtype of parameters and statistics."""
        affine = (self._parameters["route_weight"], self._parameters["weight"])
        own = (t for t in (self.running_mean, *affine) if t is not None)
        return next((t.dtype for t in own), wide(x.dtype))

    def _running(self, selection: Resolved) -> tuple[Tensor, Tensor]:
        """Running statistics (C,) of a whole-batch selection; those of several routes in float32 at least."""
        mean, var = self.running_mean, self.running_var
        assert mean is not None
        assert var is not None
        if self.statistics == "shared":
            return mean, var
        if isinstance(selection, int):
            return mean.select(0, selection), var.select(0, selection)
        mean, var = mean.to(wide(mean.dtype)), var.to(wide(var.dtype))
        if isinstance(selection, Tensor):
            return mixed(selection, mean), mixed(selection, var)
        return mean.mean(0), var.mean(0) + mean.var(0, correction=0)

    def _rows(self, routes: Tensor) -> tuple[Tensor, Tensor]:
        """Running statistics (N, C) of the routes of the samples."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean[routes], self.running_var[routes]

    def _tracked(self, index: int, update: Update) -> tuple[Tensor | None, Tensor | None, float]:
        """Running statistics of one route for the coming batch to move, and the momentum; counts the batch.

        A recomputation hands over the same tensors, for autograd saves them, with momentum 0.
        """
        if update == "none":
            return None, None, 0.0
        mean, var, count = self._buffers_of(index)
        if update == "again":
            return mean, var, 0.0
        count.add_(1)
        if self.momentum is not None:
            return mean, var, self.momentum
        if self.shares is not None:
            count = self.shares[index] if self.shares.ndim else self.shares
            count.add_(1)
        return mean, var, 1.0 / float(count)

    def _buffers_of(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        mean, var, count = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None
        assert var is not None
        assert count is not None
        return (
            (mean[index], var[index], count[index]) if self.statistics == "per_route" else (mean, var, count)
        )

    def _track_moments(self, moments: Moments) -> None:
        count, mean, var = (m.detach() for m in moments)
        unbiased = var * (count / (count - 1).clamp(min=1)).unsqueeze(1)
        if self.statistics == "shared":
            self._move(mean[0], unbiased[0], (count[0] > 0).to(mean))
        else:
            self._move(mean, unbiased, (count > 0).to(mean))

    def _move(self, mean: Tensor, var: Tensor, share: Tensor) -> None:
        """Move running statistics by share * momentum, share () or (R,)."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_((share > 0).long())
            share = share.to(mean)
            if self.momentum is not None:
                step = share * self.momentum
            elif self.shares is not None:
                step = share / self.shares.add_(share).to(share).clamp(min=torch.finfo(share.dtype).tiny)
            else:
                step = share / self.num_batches_tracked.clamp(min=1)
            weight = step.unsqueeze(1) if step.ndim else step
            for running, new in ((self.running_mean, mean), (self.running_var, var)):
                running.copy_(running.to(new.dtype).lerp(new.expand_as(running), weight))

    def reset_running_stats(self) -> None:
        """Mean 0 and variance 1 for the routes in force, as `torch.optim.swa_utils.update_bn` asks before it estimates them."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        rows: Any = slice(None)
        selection = self.router.selection
        if self.statistics == "per_route":  # those of other routes would not be estimated anew
            if isinstance(selection, tuple):
                rows = [route for route, size in selection if size]
            elif isinstance(selection, Tensor) and selection.is_floating_point():
                rows = (selection.detach() > 0).to(self.running_mean.device)
            elif isinstance(selection, Tensor):
                rows = selection.unique()
            else:
                rows = [] if selection is None else selection
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer.ndim or isinstance(rows, slice):
                buffer[rows if buffer.ndim else ...] = value

    def reset_parameters(self) -> None:
        """Affines of ones and zeros, running statistics 0 and 1, on all routes."""
        RoutedNorm.reset_parameters(self)
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def freeze(self) -> None:
        """Eval mode from now on, whatever `train()` says, and parameters that are not trained."""
        self.frozen = True
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.training = mode and not self.frozen
        return self

    def _check_input(self, x: Tensor) -> None:
        if a_tensor("the input", x, RouteError).ndim not in self.ranks or x.shape[1] != self.num_features:
            allowed = " or ".join(f"{rank}-D" for rank in self.ranks)
            raise RouteError(
                f"{type(self).__name__} of {self.num_features} channels got an input of shape {tuple(x.shape)}; "
                f"give a {allowed} tensor with {self.num_features} channels in dimension 1"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, statistics={self.statistics}, "
            + super().extra_repr()
        )


def _rows(v: Tensor | None, fill: float, x: Tensor, dtype: torch.dtype) -> Tensor:
    """An affine as one row for each sample of x, (N, C)."""
    if v is None:
        v = x.new_full(x.shape[1:2], fill, dtype=dtype)
    return v.expand(len(x), -1)


def _apply(
    x: Tensor, mean: Tensor, var: Tensor, eps: float, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    """`scale * (x - mean) / sqrt(var + eps) + shift` with everything but x at parameter size."""
    invstd = torch.rsqrt(var.to(wide(x.dtype)) + eps)
    total = invstd if scale is None else scale * invstd
    offset = -mean * total
    return scale_shift(x, total, offset if shift is None else offset + shift)


class RoutedBatchNorm1d(RoutedBatchNorm, nn.BatchNorm1d):
    """`RoutedBatchNorm` over (N, C) or (N, C, L)."""

    ranks = (2, 3)


class RoutedBatchNorm2d(RoutedBatchNorm, nn.BatchNorm2d):
    """`RoutedBatchNorm` over (N, C, H, W)."""

    ranks = (4,)


class RoutedBatchNorm3d(RoutedBatchNorm, nn.BatchNorm3d):
    """`RoutedBatchNorm` over (N, C, D, H, W)."""

    ranks = (5,)
