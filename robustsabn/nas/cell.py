"""The cells of NAS-Bench-201: an operation on each of the six edges between four nodes.

Dong & Yang, ICLR 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search".
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import product

from robustsabn.errors import ModelError
from robustsabn.scalars import whole
from robustsabn.text import nearest, quote

__all__ = ["EDGES", "EXAMPLE", "NODES", "OPERATIONS", "Cell", "all_cells"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge may compute, in the order of the benchmark."""

NODES = 4
"""Node 0 is the input of the cell; each other node is the sum over its edges, and node 3 is the output."""

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""The edges as (target node, source node), in the order of the architecture string."""

EXAMPLE = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
"""An architecture for messages: the residual block."""


@dataclass(frozen=True)
class Cell:
    """An architecture: for each edge of `EDGES`, the index of its operation in `OPERATIONS`.

    Raises ModelError unless these are six indices.

    Example:

        >>> from robustsabn.nas import Cell
        >>> cell = Cell.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|")
        >>> cell.operations, cell.skips
        ((3, 0, 3, 1, 0, 0), 1)
    """

    operations: tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.operations
        indices = [whole(index) for index in given] if isinstance(given, (tuple, list)) else []
        known = tuple(i for i in indices if i is not None and 0 <= i < len(OPERATIONS))
        if len(known) != len(EDGES) or len(indices) != len(EDGES):
            raise ModelError(
                f"the operations of a cell are {quote(given)}; give {len(EDGES)} numbers from 0 to "
                f"{len(OPERATIONS) - 1}, one for each edge: {', '.join(OPERATIONS)}"
            )
        object.__setattr__(self, "operations", known)

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """The cell that an architecture string such as `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` describes.

        Raises ModelError for other text and for unknown operations.
        """
        if not isinstance(text, str):
            raise ModelError(f"the architecture is {quote(text)}; give text such as {EXAMPLE}")
        operations = []
        nodes = text.strip().split("+")
        for target, node in enumerate(nodes, 1):
            edges = re.fullmatch(r"\|(.+)\|", node)
            for source, edge in enumerate(edges[1].split("|") if edges else ()):
                name, _, number = edge.partition("~")
                if number != str(source) or source >= target:
                    raise _misshapen(text)
                if name not in OPERATIONS:
                    raise ModelError(
                        f"unknown operation {quote(name)}{nearest(name, OPERATIONS)} on the edge from node "
                        f"{source} to node {target}; known: {', '.join(OPERATIONS)}"
                    )
                operations.append((target, source, OPERATIONS.index(name)))
        if tuple((target, source) for target, source, _ in operations) != EDGES:
            raise _misshapen(text)
        return cls(tuple(operation for *_, operation in operations))

    def __str__(self) -> str:
        """The architecture string of NAS-Bench-201."""
        parts = [f"|{OPERATIONS[i]}~{source}" for i, (_, source) in zip(self.operations, EDGES, strict=True)]
        return f"{parts[0]}|+{''.join(parts[1:3])}|+{''.join(parts[3:])}|"

    @property
    def skips(self) -> int:
        """The number of edges that copy their input; the collapse of a search shows in it."""
        return self.operations.count(OPERATIONS.index("skip_connect"))

    @property
    def number(self) -> int:
        """The place of the cell in `all_cells()`: its operations as digits in base 5."""
        number = 0
        for operation in self.operations:
            number = number * len(OPERATIONS) + operation
        return number


@cache
def all_cells() -> tuple[Cell, ...]:
    """The 15,625 cells, in the order of their numbers."""
    return tuple(Cell(operations) for operations in product(range(len(OPERATIONS)), repeat=len(EDGES)))


def _misshapen(text: str) -> ModelError:
    return ModelError(
        f"{quote(text)} is no architecture of NAS-Bench-201; write |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, such "
        f"as {EXAMPLE}"
    )
