"""The table in a folder of NATS-Bench, whose pickles are read without running what they may hold.

Dong et al., TPAMI 2021, "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size".
"""

import bz2
import contextlib
import hashlib
import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustsabn.errors import DataError, ModelError, WriteError
from robustsabn.files import make_folder
from robustsabn.nas.cell import Cell
from robustsabn.nas.table import Table, read_table, write_table
from robustsabn.paths import cache_folder
from robustsabn.text import one_line, quote

__all__ = ["read_nats"]

ENDING = ".pickle.pbz2"
LARGEST = 64 * 2**20
"""Bytes of the largest file, unpacked; those of the benchmark have 0.3 MiB, and the list of cells 1.3 MiB."""

_TESTS = {
    "cifar10": ("cifar10", "ori-test"),
    "cifar100": ("cifar100", "x-test"),
    "imagenet16-120": ("ImageNet16-120", "x-test"),
}
"""Data set -> its name in the benchmark, and the images of its test accuracy."""


def read_nats(folder: Path, progress: Callable[[int, int], None] | None = None) -> Table:
    """The table of the cells in `folder`: meta.pickle.pbz2 and a file NNNNNN.pickle.pbz2 for each cell.

    The accuracies are those after 200 epochs, means over seeds: of the test images for CIFAR-10, and of the
    half `x-test` of them for CIFAR-100 and ImageNet16-120. To read all 15,625 files takes minutes; the table
    is then kept in the cache. `progress` is called with the numbers of files that are read and of all.

    Raises DataError for a folder of another space, and for a file that is damaged or has other contents.
    """
    files = sorted(folder.glob(f"[0-9]*{ENDING}"))
    meta = folder / f"meta{ENDING}"
    if not meta.is_file() or not files:
        raise DataError(
            f"{folder} has no meta{ENDING}, or no file such as 000000{ENDING}; give the unpacked folder "
            "NATS-tss-v1_0-3ffb9-simple of NATS-Bench"
        )
    kept = cache_folder() / "nas" / f"nats-{_key(files)}.csv"
    if kept.is_file():
        with contextlib.suppress(DataError):
            return read_table(kept, folder.name)
    names = _names(meta)
    accuracies: dict[Cell, dict[str, float]] = {}
    for done, file in enumerate(files):
        if progress is not None:
            progress(done, len(files))
        cell, found = _read(file, names)
        accuracies[cell] = found
    columns = {dataset: [found[dataset] for found in accuracies.values()] for dataset in _TESTS}
    table = Table(tuple(accuracies), columns, folder.name)
    with contextlib.suppress(WriteError):  # reading again is slower, nothing else
        make_folder(kept.parent)
        write_table(table, kept)
    return table


def _key(files: list[Path]) -> str:
    """A name that changes with the files of a folder."""
    stats = [(str(file.resolve()), (known := file.stat()).st_size, known.st_mtime_ns) for file in files]
    return hashlib.blake2b(repr(stats).encode(), digest_size=8).hexdigest()


def _names(meta: Path) -> list[str]:
    """The architecture strings of all cells, in the order of the benchmark."""
    content = _load(meta)
    names = content.get("meta_archs") if isinstance(content, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{meta}: no list meta_archs of architectures; download the folder again")
    try:
        Cell.parse(names[0])
    except ModelError:
        raise DataError(
            f"{meta}: the first architecture is {quote(names[0])}, of another space; give the folder of the "
            "topology space, NATS-tss-v1_0-3ffb9-simple"
        ) from None
    return names


def _read(file: Path, names: list[str]) -> tuple[Cell, dict[str, float]]:
    """The cell of a file and its accuracies on each data set."""
    content = _load(file)
    try:
        trained = content["200"]
        cell = Cell.parse(trained["arch_str"])
        if names[int(file.name.removesuffix(ENDING))] != trained["arch_str"]:
            raise ValueError(f"the cell {cell} has another place in meta{ENDING}")
        found = {}
        for dataset, (name, part) in _TESTS.items():
            of_seeds = [result for (known, _), result in trained["all_results"].items() if known == name]
            values = [float(r["eval_acc1es"][f"{part}@{r['epochs'] - 1}"]) for r in of_seeds]
            found[dataset] = sum(values) / len(values)
            if not 0 <= found[dataset] <= 100:
                raise ValueError(f"the accuracy on {name} is {found[dataset]}")
    except Exception as error:  # noqa: BLE001 - whatever is where numbers should be
        raise DataError(
            f"{file}: not the results of a cell after 200 epochs ({one_line(error)}); download it again"
        ) from None
    return cell, found


class _Type:
    """In place of numpy.dtype: the letter and size of a number, which a pickle describes further in vain."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


def _scalar(kind: _Type, data: bytes) -> float:
    """In place of NumPy's scalars: a number of Python."""
    number: float = struct.unpack({"f8": "<d", "f4": "<f", "i8": "<q"}[kind.name], data)[0]
    return number


class _Unpickler(pickle.Unpickler):
    """Builds numbers, text, lists and mappings; whatever else a pickle names is refused, not imported."""

    _KNOWN = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "dtype"): _Type,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self._KNOWN[module, name]


def _load(file: Path) -> Any:
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        unpacker = bz2.BZ2Decompressor()
        data = unpacker.decompress(file.read_bytes(), LARGEST)
        if not unpacker.eof:
            raise ValueError("it is truncated, or too large")
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # noqa: BLE001 - a crafted pickle fails in any way
        raise DataError(
            f"{file}: not a file of NATS-Bench ({one_line(error)}); nothing of it was run; download it again"
        ) from None
