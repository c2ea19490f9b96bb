"""Tables: look-ups and ranks beside slow loops, and the files that are refused."""

import csv
import gzip
import random
from pathlib import Path

import pytest

from robustsabn.errors import DataError, ModelError
from robustsabn.nas import Cell, Table, all_cells, costs, read_table
from tests.helpers.nas.tables import ROWS, needs_benchmark, whole_table, write_table

SKIPS, NONE = Cell((1,) * 6), Cell((0,) * 6)


def test_look_ups(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "table.csv"))
    assert table.datasets == ("cifar10", "cifar100", "imagenet16-120")
    assert len(table) == 5
    assert SKIPS in table
    assert Cell((2,) * 6) not in table
    assert table.accuracy(SKIPS, "imagenet16-120") == 16.3222
    assert table.rank(SKIPS, "cifar10") == 4
    assert table.percentile(SKIPS, "cifar10") == 40
    assert str(table.best("cifar100")) == ROWS[3].partition(",")[0]
    assert table.regret(NONE, "cifar10") == pytest.approx(84.3733)
    assert table.rank_of(100, "cifar10") == 1
    assert table.rank_of(0, "cifar10") == 6


def test_ranks_beside_counting() -> None:
    draw = random.Random(0)
    cells = draw.sample(all_cells(), 200)
    accuracies = [draw.randrange(40, 90) / 2 for _ in cells]  # many are equal
    table = Table(cells, {"digits": accuracies})
    for cell, accuracy in zip(cells, accuracies, strict=True):
        assert table.rank(cell, "digits") == 1 + sum(other > accuracy for other in accuracies)
        not_better = sum(other <= accuracy for other in accuracies)
        assert table.percentile(cell, "digits") == pytest.approx(100 * not_better / len(cells))
        assert table.regret(cell, "digits") == max(accuracies) - accuracy


def test_what_a_table_does_not_have(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "table.csv"))
    with pytest.raises(ModelError, match=r"table.csv has 5 cells, but not \|nor_conv_1x1~0"):
        table.accuracy(Cell((2,) * 6), "cifar10")
    with pytest.raises(
        DataError, match=r"no data set 'cifar-10' \(did you mean cifar10\?\); it has cifar10, c"
    ):
        table.rank(SKIPS, "cifar-10")


def test_a_compressed_file_with_comments_and_other_columns(tmp_path: Path) -> None:
    rows = ["# made by hand", "seconds,arch,mine_test", f"3,{SKIPS},40", "", f"4,{NONE},10"]
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress("\r\n".join(rows).encode()))
    table = read_table(tmp_path / "table.csv.gz")
    assert table.datasets == ("mine",)
    assert table.cells == (SKIPS, NONE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            (ROWS[0], ROWS[1].replace("93.91", "nan")),
            "line 3: c10_test is 'nan'; give an accuracy from 0 to 100",
        ),
        ((ROWS[0].replace("15.6067", "101"),), "line 2: c100_test is '101'"),
        ((ROWS[0].replace("15.6067", "-1"),), "line 2: c100_test is '-1'"),
        ((ROWS[0].replace("15.6067", ""),), "line 2: c100_test is ''"),
        ((ROWS[0], ROWS[1][:-6]), "line 3: 3 values for 4 columns"),
        ((*ROWS, ROWS[0]), r"line 7: the cell \|skip.* is also in line 2"),
        ((ROWS[0].replace("skip_connect", "sep_conv"),), "line 2: unknown operation 'sep_conv'"),
        (("|conv~0|+|conv~0|pool~1|,1,2,3",), "line 2: unknown operation 'conv'"),
        (("[4, 3, 2, 1],1,2,3",), "line 2: 7 values for 4 columns"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=f"table.csv, {message}"):
        read_table(write_table(tmp_path / "table.csv", *rows))


def test_a_whole_benchmark_lacks_no_row(tmp_path: Path) -> None:
    head = "index,arch,c10_test"
    rows = [f"{i},{cell},50" for i, cell in enumerate(all_cells())]
    assert len(read_table(write_table(tmp_path / "table.csv", *rows, head=head))) == 15625
    with pytest.raises(DataError, match="line 43: the index is '42', but row 41 is expected; restore the"):
        read_table(write_table(tmp_path / "table.csv", *rows[:41], *rows[42:], head=head))
    with pytest.raises(DataError, match="ends after row 15623, but the benchmark has 15625; restore the"):
        read_table(write_table(tmp_path / "table.csv", *rows[:-1], head=head))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has the columns ''; a table needs arch, and one such as cifar10_test"),
        (b"index,arch\n", "has the columns 'index,arch'"),
        (b"cell,c10_test\n", "has the columns 'cell,c10_test'"),
        (b"arch,c10_test,c10_test\n", "has the columns"),
        (b"arch,c10_test\n", "has no rows"),
        (b"arch,c10_test\n\xff", "is not UTF-8 text"),
        (gzip.compress(b"arch,c10_test\n" * 99, mtime=0)[:-20], "cannot be read"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (b'arch,c10_test\n"' + b"a" * 200_000, "field larger than field limit"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "table.csv")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="row 1 has the accuracy nan on digits"):
        Table([SKIPS, NONE], {"digits": [3, float("nan")]})


@needs_benchmark
def test_the_whole_benchmark() -> None:
    """Look-ups equal the file, costs its columns, and the best cells are those that are published."""
    table = read_table(whole_table())
    with gzip.open(whole_table(), "rt") as file:
        for row in csv.DictReader(file):
            cell = Cell.parse(row["arch"])
            for column, dataset in zip(("c10", "c100", "in16"), table.datasets, strict=True):
                assert table.accuracy(cell, dataset) == float(row[f"{column}_test"])
            flops, parameters = costs(cell)
            assert f"{flops / 1e6:.5f}" == row["c10_flops_m"]
            assert parameters == round(1e6 * float(row["c10_params_m"]))
    best = [table.accuracy(table.best(dataset), dataset) for dataset in table.datasets]
    assert best == [94.3733, 73.5133, 47.3111]
    assert [table.rank(SKIPS, dataset) for dataset in table.datasets] == [15231, 15221, 14318]
