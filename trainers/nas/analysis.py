"""What the paths of a supernet do: the gradients of single cells on the weights that they share."""

import torch

from robustsabn.analysis import RouteBatch, route_gradients
from robustsabn.data import ImageSet
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.loop.draws import generator
from robustsabn.trainers.nas.search.searchers import random_cells
from robustsabn.trainers.nas.search.step import SearchStep
from robustsabn.trainers.runs.analysis import analysis_record
from robustsabn.trainers.runs.metrics import Record

__all__ = ["analysed"]

PATHS = 8


def analysed(step: SearchStep, images: ImageSet, count: int) -> Record:
    """Gradients of 8 random cells, the same in all runs, on `count` images, and the affines of all routes."""
    device = step.run.accelerator.device
    x, y = images.batch(torch.arange(min(count, len(images))), device)
    cells = random_cells(PATHS, generator("cpu", 0, "analysis"))
    batches = [
        RouteBatch(step.evaluated(cell).routes, (x, cell.operations, cell.operations), y, name=str(cell))
        for cell in cells
    ]
    with uncompiled(step.supernet):
        return analysis_record(step.supernet, route_gradients(step.supernet, routes=batches))
