"""Pictures of a search: the weights of the operations over epochs, and the found cell as a graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from robustsabn.nas import EDGES, OPERATIONS, Cell
from robustsabn.report.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cell_graph", "weights_over_epochs"]

Weights = Sequence[Sequence[float]]
"""The weights of the operations on each edge, (6, 5)."""

NAMES = ("none", "skip", "conv 1x1", "conv 3x3", "avg pool")
INK = "#444b55"
COLOUR_OF = dict(zip(OPERATIONS, ("#c9ced6", COLOURS[3], COLOURS[4], COLOURS[0], COLOURS[5]), strict=True))


def weights_over_epochs(epochs: Sequence[float], history: Sequence[Weights]) -> "Figure":
    """A heat map for each edge: operations as rows, validations at `epochs` as columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2))  # a layout that is computed would take longer than the drawing
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    figure.subplots_adjust(0.08, 0.11, 0.88, 0.93, 0.06, 0.2)
    values = np.asarray(history, dtype=float)  # (validations, 6, 5)
    images = []
    for i, (panel, (target, source)) in enumerate(zip(panels.flat, EDGES, strict=True)):
        weights, top = values[:, i].T, values.max()
        images.append(panel.imshow(weights, aspect="auto", cmap="viridis", vmin=0, vmax=top))
        panel.set_title(f"node {source} to node {target}", fontsize=9)
        panel.set_yticks(range(len(NAMES)), NAMES, fontsize=8)
        places = sorted({round(x) for x in np.linspace(0, len(epochs) - 1, min(6, len(epochs)))})
        panel.set_xticks(places, [f"{epochs[place]:.3g}" for place in places], fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("epoch", fontsize=9)
    beside = figure.add_axes((0.91, 0.14, 0.018, 0.76))
    figure.colorbar(images[0], cax=beside, label="weight of the operation")
    return figure


def cell_graph(cell: Cell, title: str = "") -> "Figure":
    """The nodes of `cell` in a row, its operations as arrows; `none` is a dotted line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.7))
    axes = figure.add_axes((0, 0, 1, 0.9))
    for (target, source), operation in zip(EDGES, cell.operations, strict=True):
        _arrow(axes, source, target, operation)
    for node in range(4):
        axes.plot(2 * node, 0, "o", markersize=30, color="white", markeredgecolor=INK, zorder=3)
        name = {0: "input", 3: "output"}.get(node, str(node))
        axes.text(2 * node, 0, name, ha="center", va="center", fontsize=8, color=INK, zorder=4)
    axes.set_xlim(-0.7, 6.7)
    axes.set_ylim(-1.3, 1.5)
    axes.axis("off")
    axes.set_title(title or str(cell), fontsize=8, color=INK)
    return figure


def _arrow(axes: "Axes", source: int, target: int, operation: int) -> None:
    """An arrow between two nodes; those that pass over other nodes are arcs, above or below."""
    from matplotlib.patches import FancyArrowPatch

    length = target - source
    up = (source, target) != (1, 3)  # below, because the two arcs over one node would cross
    bend = 0.0 if length == 1 else 0.32 * (1 if up else -1)
    none = OPERATIONS[operation] == "none"
    colour = COLOUR_OF[OPERATIONS[operation]]
    axes.add_patch(
        FancyArrowPatch(
            (2 * source, 0),
            (2 * target, 0),
            connectionstyle=f"arc3,rad={-bend}",
            arrowstyle="-" if none else "-|>",
            linestyle=":" if none else "-",
            mutation_scale=16,
            shrinkA=17,
            shrinkB=17,
            linewidth=1.6 if none else 2.4,
            color=colour,
        )
    )
    height = bend * length  # the middle of a quadratic curve whose control point is twice as high
    axes.text(
        source + target,
        height,
        NAMES[operation],
        ha="center",
        va="center",
        fontsize=9,
        color=INK,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour, "linewidth": 1.0},
        zorder=5,
    )
