"""Folders of NATS-Bench: the same table as the CSV, and pickles that run nothing."""

import bz2
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustsabn.errors import DataError
from robustsabn.nas import Cell, read_table
from robustsabn.nas.nats import LARGEST, read_nats
from robustsabn.nas.sources import open_table
from tests.helpers.nas.tables import needs_benchmark, whole_table

CELLS = [Cell((1,) * 6), Cell((3, 0, 3, 1, 0, 1)), Cell((4,) * 6)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTSABN_CACHE", str(tmp_path / "cache"))


def packed(content: object) -> bytes:
    return bz2.compress(pickle.dumps(content, protocol=4))


def results(cell: Cell, accuracies: dict[str, list[float]]) -> Any:
    """The content of a file: accuracies of seeds, by data set, beside others that are not to be reported."""
    part = {
        "cifar10": "ori-test",
        "cifar100": "x-test",
        "ImageNet16-120": "x-test",
        "cifar10-valid": "x-valid",
    }
    runs = OrderedDict()
    for name, values in accuracies.items():
        for seed, value in zip((777, 888, 999), values, strict=False):
            own = {f"{part[name]}@11": 1.0, f"{part[name]}@199": value, "x-valid@199": 2.0}
            runs[name, seed] = {"eval_acc1es": own, "epochs": 200, "params": np.float64(0.1)}
    return OrderedDict({"12": {}, "200": {"arch_str": str(cell), "all_results": runs}})


def make(folder: Path) -> Path:
    """A folder with two of three cells."""
    folder.mkdir()
    (folder / "meta.pickle.pbz2").write_bytes(packed({"meta_archs": [str(cell) for cell in CELLS]}))
    for place in (0, 2):
        accuracies = {
            "cifar10": [place + 50.0, place + 60.0],
            "cifar100": [40.0],
            "ImageNet16-120": [3.0, 5, 7],
        }
        content = results(CELLS[place], accuracies | {"cifar10-valid": [99.0]})
        (folder / f"{place:06}.pickle.pbz2").write_bytes(packed(content))
    return folder


def test_means_over_seeds_of_the_reported_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    table = open_table(make(tmp_path / "nats"), lambda *numbers: seen.append(numbers))
    assert table.cells == (CELLS[0], CELLS[2])
    assert table.name == "nats"
    for cell, cifar10 in ((CELLS[0], 55), (CELLS[2], 57)):
        found = [table.accuracy(cell, d) for d in ("cifar10", "cifar100", "imagenet16-120")]
        assert found == [cifar10, 40, 5]
    assert seen == [(0, 2), (1, 2)]


def test_a_folder_is_read_once_until_it_changes(tmp_path: Path) -> None:
    folder, seen = make(tmp_path / "nats"), list[int]()
    first = open_table(folder)
    again = open_table(folder, lambda done, _: seen.append(done))
    assert (seen, again.cells, again.name) == ([], first.cells, "nats")
    assert again.accuracy(CELLS[2], "cifar10") == first.accuracy(CELLS[2], "cifar10")
    (folder / "000001.pickle.pbz2").write_bytes(
        packed(results(CELLS[1], {"cifar10": [94.0], "cifar100": [70.0], "ImageNet16-120": [44.0]}))
    )
    assert len(open_table(folder)) == 3


class Runs:
    """Pickled, it is a command that runs when it is unpickled as usual."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self.call = call, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("call", [os.system, subprocess.getoutput, eval, exec, np.load, np.save])
@pytest.mark.parametrize("name", ["000000", "meta"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, call: Callable[..., object], name: str) -> None:
    folder = make(tmp_path / "nats")
    witness = tmp_path / "witness"
    if call in (eval, exec):
        argument = f"open({str(witness)!r}, 'w')"
    else:
        argument = f"touch {witness}" if call in (os.system, subprocess.getoutput) else str(witness)
    content = packed({"200": Runs(call, argument), "meta_archs": Runs(call, argument)})
    (folder / f"{name}.pickle.pbz2").write_bytes(content)
    with pytest.raises(
        DataError, match=f"{name}.pickle.pbz2: not a file of NATS-Bench .*nothing of it was run"
    ):
        read_nats(folder)
    assert not witness.exists()


def test_the_malicious_pickle_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Runs(os.system, f"touch {tmp_path / 'witness'}")))
    assert (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x04cbuiltins\ngetattr\n.",
        b"\x80\x04cnumpy\nload\n.",
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x04\x82\x01.",  # EXT1
        b"\x80\x04X\x01\x00\x00\x00aQ.",  # BINPERSID
        b"\x80\x04cnumpy\ndtype\n(X\x01\x00\x00\x00OtR.",  # objects
        b"\x80\x04ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",  # BUILD of a class
        b"\x80\x04ccollections.abc\nOrderedDict\n.",
        b"\x80\x05\x97.",  # a buffer that nobody gave
        b"",
        b"no pickle",
    ],
)
def test_crafted_pickles_are_refused(tmp_path: Path, code: bytes) -> None:
    folder = make(tmp_path / "nats")
    (folder / "000000.pickle.pbz2").write_bytes(bz2.compress(code))
    with pytest.raises(DataError, match=r"000000\.pickle\.pbz2: not "):
        read_nats(folder)


def test_files_that_unpack_to_too_much(tmp_path: Path) -> None:
    folder = make(tmp_path / "nats")
    (folder / "000000.pickle.pbz2").write_bytes(bz2.compress(bytes(LARGEST + 1)))
    with pytest.raises(DataError, match="truncated, or too large"):
        read_nats(folder)
    with (folder / "000000.pickle.pbz2").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(DataError, match="it is too large"):
        read_nats(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"12": {}}, "KeyError: '200'"),
        (results(CELLS[0], {"cifar10": [50.0]}), "ZeroDivisionError"),
        (results(CELLS[1], {"cifar10": [50.0]}), "has another place in meta.pickle.pbz2"),
        (results(CELLS[0], {"cifar10": [float("nan")]}), "the accuracy on cifar10 is nan"),
        (results(CELLS[0], {"cifar10": [101.0]}), "the accuracy on cifar10 is 101.0"),
        ([1, 2], "TypeError"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, message: str) -> None:
    folder = make(tmp_path / "nats")
    (folder / "000000.pickle.pbz2").write_bytes(packed(content))
    with pytest.raises(DataError, match=rf"000000.pickle.pbz2: not the results of a cell .*{message}"):
        read_nats(folder)
    (folder / "000000.pickle.pbz2").write_bytes(packed(content)[:-9])
    with pytest.raises(DataError, match="truncated"):
        read_nats(folder)


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no meta.pickle.pbz2, .*give the unpacked folder"):
        open_table(tmp_path)
    folder = make(tmp_path / "nats")
    (folder / "meta.pickle.pbz2").write_bytes(packed({"meta_archs": ["64:64:64:64:64"]}))
    with pytest.raises(DataError, match="the first architecture is '64:64:64:64:64', of another space"):
        open_table(folder)
    (folder / "meta.pickle.pbz2").write_bytes(packed({"archs": []}))
    with pytest.raises(DataError, match="no list meta_archs"):
        open_table(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digits-hrad",
            r"no table 'digits-hrad' \(did you mean digits-hard\?\); give a CSV file, the folder of",
        ),
        ("nb201.pth", "nb201.pth is a pickle; give the unpacked folder"),
        ("", "the table is empty text"),
    ],
)
def test_no_table(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_table(name)


@needs_benchmark
def test_official_files_equal_the_whole_table() -> None:
    whole, official = read_table(whole_table()), open_table(whole_table().parent / "official")
    assert official.datasets == whole.datasets
    assert len(official) == 3
    for cell in official.cells:
        for dataset in whole.datasets:  # the CSV has four decimals
            assert whole.accuracy(cell, dataset) == pytest.approx(official.accuracy(cell, dataset), abs=5e-5)
