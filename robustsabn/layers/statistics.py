"""Running statistics of routed batch norms: how they are read, updated, reset and frozen."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from robustsabn.devices import vector, waits
from robustsabn.layers.affine.compose import mixed
from robustsabn.layers.base import RoutedNorm, Tied
from robustsabn.layers.moments import Moments, approach, wide
from robustsabn.routing import Resolved

S = TypeVar("S", bound="RunningStatistics")
Update = Literal["none", "move", "again"]

__all__ = ["RunningStatistics", "Update"]


class RunningStatistics(RoutedNorm, _BatchNorm):
    """A routed norm with running statistics, (C,) shared or (R, C) per route, which tools see as torch's
    batch norm.

    `shares` are the sums of the weights of batches so far, for plain means (momentum None) under a `Blend`. A
    `frozen` layer stays in eval mode.
    """

    torch_layer: ClassVar[type[_BatchNorm]] = nn.SyncBatchNorm  # it takes any rank too
    frozen = False
    momentum: float | None
    shares: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def as_plain(self, selection: Resolved, tied: Tied) -> nn.Module:
        new: Any = super().as_plain(selection, tied)
        new.momentum, new.track_running_stats = self.momentum, self.track_running_stats
        new._buffers.update(self._plain_statistics(selection))
        return new  # type: ignore[no-any-return]

    def _fresh(self) -> nn.Module:
        return self.torch_layer(self.num_features, affine=self.affine != "none", device="meta")

    def _plain_statistics(self, selection: Resolved) -> dict[str, Tensor | None]:
        if self.running_mean is None:
            return dict.fromkeys(("running_mean", "running_var", "num_batches_tracked"))
        mean, var = self._running(selection)
        count = self.num_batches_tracked
        if count is not None and count.ndim:
            count = count[selection] if isinstance(selection, int) else count.max()
        return {
            "running_mean": mean.detach().to(self.running_mean.dtype, copy=True),
            "running_var": var.detach().to(self.running_mean.dtype, copy=True),
            "num_batches_tracked": None if count is None else count.clone(),
        }

    def _running(self, selection: Resolved) -> tuple[Tensor, Tensor]:
        """Running statistics (C,) of a whole-batch selection; those of several routes in float32 or wider."""
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
        """Running statistics of one route, which the next batch updates, and the momentum; counts the batch.

        A recomputation gets the same tensors, since autograd saves them, with momentum 0.
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

    def _moved_apart(self, update: Update) -> bool:
        """Whether `_move` follows torch's kernel, which takes the weight of a plain mean from the host."""
        return update == "move" and self.momentum is None and waits(self.num_batches_tracked)

    def _shares_of(self, selection: Resolved, like: Tensor) -> Tensor:
        """How much a batch of a whole-batch selection moves each set of running statistics, () or (R,)."""
        if self.statistics == "shared":
            return like.new_ones(())
        if isinstance(selection, Tensor):
            return selection.detach().to(like)
        assert isinstance(selection, int)
        return vector(len(self.router), 0.0, {selection: 1.0}, like.device, like.dtype)

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
        """Update running statistics by share * momentum, with share () or (R,)."""
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
            approach(self.running_mean, mean, weight)
            approach(self.running_var, var, weight)

    def reset_running_stats(self) -> None:
        """Set mean 0 and variance 1 for the selected routes; `swa_utils.update_bn` calls this first."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        rows: Any = slice(None)
        selection = self.router.selection
        if self.statistics == "per_route":  # other routes would not be estimated again
            if isinstance(selection, tuple):
                rows = [route for route, size in selection if size]
            elif isinstance(selection, Tensor) and selection.is_floating_point():
                rows = (selection.detach() > 0).to(self.running_mean.device)
            elif isinstance(selection, Tensor):
                chosen = torch.zeros(len(self.router), dtype=torch.bool, device=selection.device)
                rows = chosen.index_fill_(0, selection, True)  # unique would wait for the device
            else:
                rows = [] if selection is None else selection
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer.ndim or isinstance(rows, slice):
                buffer[rows if buffer.ndim else ...] = value

    def reset_parameters(self) -> None:
        """Set affines to ones and zeros and running statistics to 0 and 1, for all routes."""
        RoutedNorm.reset_parameters(self)
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def freeze(self) -> None:
        """Eval mode from now on, also after `train()`, with parameters that require no grad."""
        self.frozen = True
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.training = mode and not self.frozen
        return self
