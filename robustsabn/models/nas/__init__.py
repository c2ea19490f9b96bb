"""Networks of the cells of NAS-Bench-201."""

from robustsabn.models.nas.cell_network import CellNetwork, nas_bench_201

__all__ = ["CellNetwork", "nas_bench_201"]
