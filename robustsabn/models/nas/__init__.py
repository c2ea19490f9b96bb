"""Networks of the cells of NAS-Bench-201."""

from robustsabn.models.nas.cell_network import CellNetwork, nas_bench_201
from robustsabn.models.nas.supernet import Supernet, supernet

__all__ = ["CellNetwork", "Supernet", "nas_bench_201", "supernet"]
