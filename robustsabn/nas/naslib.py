"""NASLib's notation of a cell: six numbers, in another order of operations and of edges."""

from collections.abc import Sequence

from robustsabn.errors import ModelError
from robustsabn.nas.cell import EDGES, OPERATIONS, Cell
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["from_naslib", "to_naslib"]

_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
_EDGES = tuple(sorted(EDGES, key=lambda edge: (edge[1], edge[0])))  # by source node


def to_naslib(cell: Cell) -> tuple[int, ...]:
    """The list `op_indices` of NASLib: Identity, Zero, Conv3x3, Conv1x1, AvgPool; edges by their source.

    Example:

        >>> from robustsabn.nas import Cell, to_naslib
        >>> to_naslib(Cell((3, 0, 3, 1, 0, 0)))
        (2, 1, 0, 2, 1, 1)
    """
    operation = {edge: OPERATIONS[i] for edge, i in zip(EDGES, cell.operations, strict=True)}
    return tuple(_OPERATIONS.index(operation[edge]) for edge in _EDGES)


def from_naslib(indices: Sequence[int]) -> Cell:
    """The cell of a list `op_indices` of NASLib; ModelError unless it is six numbers from 0 to 4."""
    given = [whole(index) for index in indices] if isinstance(indices, Sequence) else []
    known = [i for i in given if i is not None and 0 <= i < len(_OPERATIONS)]
    if len(known) != len(_EDGES) or len(given) != len(_EDGES):
        raise ModelError(
            f"the list of NASLib is {quote(indices)}; give {len(_EDGES)} numbers from 0 to "
            f"{len(_OPERATIONS) - 1}, in NASLib's order: {', '.join(_OPERATIONS)}"
        )
    operation = dict(zip(_EDGES, known, strict=True))
    return Cell(tuple(OPERATIONS.index(_OPERATIONS[operation[edge]]) for edge in EDGES))
