"""The losses of one step of a search, with the gradients of the weights and of the architecture."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robustsabn.attacks.model.mode import frozen_statistics
from robustsabn.layers.moments import wide
from robustsabn.models.nas import Supernet
from robustsabn.nas import Cell
from robustsabn.routing import route
from robustsabn.trainers.loop.compiling import compiled
from robustsabn.trainers.loop.draws import generator
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.updates import Update, without_gradients
from robustsabn.trainers.nas.search.routes import Routes, blended, of_operations, sampled
from robustsabn.trainers.nas.search.searchers import SEARCHERS, Edges
from robustsabn.trainers.nas.search.unrolled import unrolled_gradient
from robustsabn.trainers.processes.distributed import average_over_processes

__all__ = ["SearchStep", "Way"]

Batch = tuple[Tensor, Tensor]
"""Images (n, C, H, W) in [0, 1] and labels (n,): the share of this process."""


@dataclass(frozen=True)
class Way:
    """One way through the supernet: what its edges compute, and the routes of its norms."""

    edges: Edges
    routes: Routes

    def logits(self, supernet: Supernet, x: Tensor) -> Tensor:
        """Logits (n, num_classes) of images x (n, C, H, W) in [0, 1]."""
        weights, path = self.edges
        with route(supernet, self.routes) if self.routes else nullcontext():
            z: Tensor = supernet(x, path if weights is None else weights, path)
        return z


class SearchStep:
    """Losses and gradients of a search; all randomness depends only on (seed, step).

    - search: a name in `SEARCHERS`.
    - routes: of a forward that mixes all operations, "sampled" for each edge of each cell with the weights of
      the mixture, or "blended" with these weights. A single path takes the routes of its own operations.
    - faithful: as the published code, the input of the first cell has a route, too, and evaluations sample.

    Gradients are averaged over the processes here, since a path leaves most parameters without any.
    """

    def __init__(
        self,
        run: Run[Any],
        supernet: Supernet,
        search: str,
        *,
        routes: Literal["sampled", "blended"] = "sampled",
        faithful: bool = False,
    ) -> None:
        self.run, self.supernet, self.searcher = run, supernet, SEARCHERS[search]
        self.routes, self.faithful = routes, faithful
        self.weights = [p for p in supernet.parameters() if p is not supernet.architecture]

    def weights_loss(self, step: int, total: int, batch: Batch, cell: Cell | None = None) -> Tensor:
        """The loss of the weights' update in step `step` of `total`, after its backward pass.

        The architecture gets no gradient. With `cell`, only its path is trained.
        """
        chosen = self.supernet.architecture.detach()
        way = self._way("weights", step, total, chosen) if cell is None else self.evaluated(cell)
        loss = self._loss(batch, way)
        self._backward(loss, self.weights)
        return loss.detach()

    def architecture_loss(
        self, step: int, total: int, batch: Batch, training: Batch, update: Update
    ) -> Tensor:
        """The loss of the architecture's update in step `step` of `total`, after its backward pass.

        The weights get no gradients, and running statistics stay, as this is not their batch. `training` is a
        batch of the weights, and `update` their update, for searches that look a step ahead of it.
        """
        architecture = self.supernet.architecture
        still = nullcontext() if self.faithful else frozen_statistics(self.supernet)
        with still:
            if self.searcher.unrolled:
                return self._unrolled(step, total, batch, training, update)
            with without_gradients(self.weights):
                loss = self._loss(batch, self._way("architecture", step, total, architecture))
                self._backward(loss, [architecture])
        return loss.detach()

    def evaluated(self, chosen: Tensor | Cell, step: int = 0) -> Way:
        """The way by which weights (6, 5) of all operations, or a cell, are evaluated.

        The routes are the most likely ones, or those of the cell's operations; faithful ones of a mixture are
        drawn.
        """
        if isinstance(chosen, Cell):
            operations = chosen.operations
            return Way(Edges(None, operations), self._of(operations))
        weights = chosen.detach()
        if self.routes == "blended":
            return Way(Edges(weights, None), blended(self.supernet, weights))
        if self.faithful:
            return Way(Edges(weights, None), self._sampled(weights, self._source("evaluation", step)))
        return Way(Edges(weights, None), self._of(weights.argmax(1).tolist()))

    def found(self) -> Cell:
        """The cell of the largest entries of the architecture."""
        return Cell(tuple(self.supernet.architecture.argmax(1).tolist()))

    def _way(self, purpose: str, step: int, total: int, architecture: Tensor) -> Way:
        source = self._source(purpose, step)
        edges = self.searcher.edges(architecture, step / total, source)
        if edges.weights is not None and self.routes == "blended":
            return Way(edges, blended(self.supernet, edges.weights))
        if edges.path is not None:
            return Way(edges, self._of(edges.path))
        assert edges.weights is not None
        return Way(edges, self._sampled(edges.weights, source))

    def _sampled(self, weights: Tensor, source: torch.Generator) -> Routes:
        numbers = weights.is_cpu and not compiled(self.supernet)
        return sampled(self.supernet, weights, source, numbers=numbers, faithful=self.faithful)

    def _of(self, operations: Any) -> Routes:
        return of_operations(self.supernet, operations, faithful=self.faithful)

    def _source(self, purpose: str, step: int) -> torch.Generator:
        """A generator of the step, the same in all processes; that of random paths is on the host."""
        device = self.run.accelerator.device if self.searcher.learns else "cpu"
        return generator(device, self.run.config.seed, f"search {purpose}", step)

    def _loss(self, batch: Batch, way: Way) -> Tensor:
        x, y = batch
        with self.run.accelerator.autocast():
            z = way.logits(self.supernet, x)
        return cross_entropy(z.to(wide(z.dtype)), y)

    def _backward(self, loss: Tensor, parameters: list[Any]) -> None:
        self.run.accelerator.backward(loss)
        reached = [p for p in parameters if p.grad is not None]
        for parameter, gradient in zip(
            reached, average_over_processes([p.grad for p in reached]), strict=True
        ):
            parameter.grad = gradient

    def _unrolled(self, step: int, total: int, batch: Batch, training: Batch, update: Update) -> Tensor:
        architecture = self.supernet.architecture

        def way(purpose: str, learns: bool) -> Way:
            return self._way(purpose, step, total, architecture if learns else architecture.detach())

        def training_loss(learns: bool) -> Tensor:  # each time with the same routes
            with without_gradients(self.weights if learns else []):
                return self._loss(training, way("unrolled", learns))

        def validation_loss() -> Tensor:
            return self._loss(batch, way("architecture", True))

        loss, gradient = unrolled_gradient(
            training_loss, validation_loss, self.weights, architecture, update.optimizer
        )
        architecture.grad = gradient
        return loss
