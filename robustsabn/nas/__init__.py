"""The cell space of NAS-Bench-201: architectures, their costs, and tables of their accuracies."""

from robustsabn.nas.cell import EDGES, NODES, OPERATIONS, Cell, all_cells
from robustsabn.nas.costs import Costs, costs
from robustsabn.nas.naslib import from_naslib, to_naslib
from robustsabn.nas.table import Table, read_table

__all__ = [
    "EDGES",
    "NODES",
    "OPERATIONS",
    "Cell",
    "Costs",
    "Table",
    "all_cells",
    "costs",
    "from_naslib",
    "read_table",
    "to_naslib",
]
