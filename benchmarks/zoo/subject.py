"""A network of the zoo with its batch and plain outputs, and the comparison of outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import route
from robustsabn.conversion.plain_norms import is_norm
from zoo.network import ROWS, Network, forward, plain_seeds, randomise, rows, tensors, to_dtype, wake

__all__ = ["ROUTES", "Different", "Subject", "apart", "brief"]

ROUTES = ("clean", "adv")


class Different(Exception):
    """A silent difference, about which there was no message."""


class Subject:
    """A network in a dtype, its batch, and what the plain network gives on it in eval mode."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.network, self.dtype = network, dtype
        self.bound = 1e-7 if dtype is torch.float64 else 1e-4
        self.plain = randomise(wake(plain_seeds(network.build))).to(dtype)
        torch.manual_seed(1)
        self.batch = to_dtype(network.inputs(ROWS), dtype)
        self.out = self.run(self.plain)
        self.keeps_apart = self._keeps_apart()

    def _keeps_apart(self) -> list[bool]:
        """Of every tensor of the outputs, whether its rows are functions of their own sample alone."""
        lists = self.network.lists
        apart_ = [True for _ in tensors(self.out)]
        for keep in ([0, 1], [2, 3]):
            try:
                half = list(tensors(self.run(self.plain, batch=rows(self.batch, keep, lists))))
            except (RuntimeError, ValueError, TypeError):  # another batch size is not allowed
                continue
            whole = list(tensors(rows(self.out, keep, lists)))
            if len(whole) == len(half) == len(apart_):
                same = [apart(a, b) <= 100 * self.bound for a, b in zip(whole, half, strict=True)]
                apart_ = [before and now for before, now in zip(apart_, same, strict=True)]
        calm, stirred = self._stirred(0.0), self._stirred(0.1)
        whole, other = (list(tensors(rows(out, [0, 1], lists))) for out in (calm, stirred))
        if len(whole) == len(other) == len(apart_):
            same = [apart(a, b) <= 100 * self.bound for a, b in zip(whole, other, strict=True)]
            apart_ = [before and now for before, now in zip(apart_, same, strict=True)]
        return apart_

    def _stirred(self, size: float) -> Any:
        """Plain outputs with noise after the norms on the last two samples, as their route would change."""
        first = self._sample_first()

        def stir(_: nn.Module, __: Any, out: Any) -> Any:
            if isinstance(out, Tensor) and len(out) == ROWS:
                noise = size * torch.randn(
                    out[2:].shape, generator=torch.Generator().manual_seed(3), dtype=out.dtype
                )
                return torch.cat([out[:2], out[2:] + noise])
            return out

        handles = [module.register_forward_hook(stir) for module in first]
        try:
            return self.run(self.plain)
        finally:
            for handle in handles:
                handle.remove()

    def _sample_first(self) -> list[nn.Module]:
        """The norm layers whose first dimension is that of samples: it shrinks with the batch."""
        norms = [module for module in self.plain.modules() if is_norm(module)]
        shrinks: dict[nn.Module, bool] = {}

        def note(module: nn.Module, _: Any, output: Tensor) -> None:
            shrinks[module] = len(output) == 2

        handles = [module.register_forward_hook(note) for module in norms]
        try:
            self.run(self.plain, batch=rows(self.batch, [0, 1], self.network.lists))
        except (RuntimeError, ValueError, TypeError):  # another batch size is not allowed
            return norms
        finally:
            for handle in handles:
                handle.remove()
        return [module for module in norms if shrinks.get(module)]

    def of_samples(self, outputs: Any, keep: list[int]) -> list[Tensor]:
        """The rows of some samples, of those outputs whose rows do not depend on other samples."""
        lists = self.network.lists
        values = list(tensors(rows(outputs, keep, lists)))
        if lists:
            return values
        return [value for value, own in zip(values, self.keeps_apart, strict=True) if own]

    def run(self, model: nn.Module, selection: Any = "plain", batch: Any = None) -> Any:
        """Outputs without a graph, through a route unless the model is plain."""
        with torch.no_grad():
            if isinstance(selection, str) and selection == "plain":
                return forward(model, self.batch if batch is None else batch)
            with route(model, selection):
                return forward(model, self.batch if batch is None else batch)

    def activations(self, model: nn.Module, selection: Any) -> list[Tensor]:
        """What every layer without parts gives for the whole batch, in the order of the calls."""
        found: list[Tensor] = []

        def keep(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and len(out) == ROWS:
                found.append(out.clone())

        leaves = [module for module in model.modules() if not any(module.children())]
        handles = [module.register_forward_hook(keep) for module in leaves]
        try:
            self.run(model, selection)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def same(self, found: Any, expected: Any, what: str) -> None:
        """Different unless two outputs are equal within rounding."""
        off = apart(found, expected)
        if not off <= self.bound:
            raise Different(f"{what}: off by {off:.1e} of the largest value")


def apart(found: Any, expected: Any) -> float:
    """Largest difference of two outputs, relative to a tensor's largest value; infinite for other shapes."""
    ours, theirs = list(tensors(found)), list(tensors(expected))
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return float("inf")
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.detach().double(), b.detach().double()
        same_holes = torch.equal(a.isfinite(), b.isfinite())
        a, b = a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)
        scale = float(b.abs().max()) if b.numel() else 1.0
        off = float((a - b).abs().max()) / max(scale, 1e-12) if b.numel() else 0.0
        largest = max(largest, off if same_holes else float("inf"))
    return largest


def brief(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
