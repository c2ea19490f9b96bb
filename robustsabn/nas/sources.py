"""Tables by specification: a CSV file, a folder of NATS-Bench, or one that is part of the package."""

from collections.abc import Callable
from pathlib import Path

from robustsabn.errors import DataError
from robustsabn.nas.nats import read_nats
from robustsabn.nas.table import Table, read_table
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote

__all__ = ["PACKAGED", "SPECS", "open_table"]

PACKAGED = {"digits-hard": Path(__file__).parent / "tables" / "digits-hard.csv"}
"""The tables of the package."""

SPECS = f"a CSV file, the folder of NATS-Bench, {', '.join(PACKAGED)}"


def open_table(spec: str | Path, progress: Callable[[int, int], None] | None = None) -> Table:
    """The table that `spec`, one of `SPECS`, names; `progress` is that of `read_nats`.

    Raises DataError if there is none, and as `read_table` and `read_nats`.
    """
    if spec in PACKAGED:
        return read_table(PACKAGED[str(spec)], str(spec))
    path = given_path(spec, "the table", DataError)
    if path.is_dir():
        return read_nats(path, progress)
    if path.suffix in (".pbz2", ".pth", ".pt", ".pickle", ".pkl"):
        raise DataError(
            f"{path} is a pickle; give the unpacked folder NATS-tss-v1_0-3ffb9-simple, or {SPECS}"
        )
    if not path.is_file():
        raise DataError(f"no table {quote(str(spec))}{nearest(spec, PACKAGED)}; give {SPECS}")
    return read_table(path)
