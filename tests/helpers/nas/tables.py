"""A small table of NAS-Bench-201, and where the whole one is, if it is there."""

import os
from pathlib import Path

import pytest

from robustsabn.nas import Cell

__all__ = ["ROWS", "needs_benchmark", "whole_table", "write_table"]

needs_benchmark = pytest.mark.skipif(
    "ROBUSTSABN_TEST_DATA" not in os.environ, reason="needs the table of NAS-Bench-201"
)

# of the benchmark: the collapse to skips, a residual block, all 3x3 convolutions, the best on CIFAR-10, none
ROWS = (
    f"{Cell((1,) * 6)},54.2967,15.6067,16.3222",
    f"{Cell((3, 0, 3, 1, 0, 1))},93.91,70.89,44.23",
    f"{Cell((3,) * 6)},93.76,71.11,41.44",
    f"{Cell((3, 3, 3, 1, 3, 2))},94.3733,73.2,46.7",
    f"{Cell((0,) * 6)},10.0,1.0,0.8333",
)


def write_table(path: Path, *rows: str, head: str = "arch,c10_test,c100_test,in16_test") -> Path:
    """A CSV file of these rows, of `ROWS` by default."""
    path.write_text("\n".join([head, *(rows or ROWS), ""]))
    return path


def whole_table() -> Path:
    """The CSV file of all 15,625 cells."""
    return Path(os.environ["ROBUSTSABN_TEST_DATA"]) / "nas" / "nb201_compact.csv.gz"
