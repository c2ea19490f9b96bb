"""`robustsabn nas-score`: what it prints and writes, and one line for what is wrong."""

import json
import shlex
from pathlib import Path

import pytest

from robustsabn.cli import main
from tests.helpers.nas.tables import ROWS, write_table

RESIDUAL = ROWS[1].partition(",")[0]


@pytest.mark.parametrize("architecture", [RESIDUAL, f" {RESIDUAL} ", "2,1,0,2,1,0", "[2, 1, 0, 2, 1, 0]"])
def test_the_table_and_the_numbers(
    architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, numbers = write_table(tmp_path / "table.csv"), tmp_path / "new" / "score.json"
    assert main(["nas-score", architecture, "--table", str(table), "--json", str(numbers)]) == 0
    printed = capsys.readouterr().out
    assert RESIDUAL in printed
    line = next(line for line in printed.splitlines() if "cifar100 " in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "cifar100",
        "70.89 %",
        "3 of 5",
        "60.00",
        "2.31 %",
        "78.568 M",
        "0.565 M",
    ]
    assert "2 skips; NASLib's list [2, 1, 0, 2, 1, 0]" in printed
    *words, cell = shlex.split(printed.splitlines()[-1])
    assert words == ["next:", "robustsabn", "train", "digits", "model=nas-bench-201"]
    assert cell == f"model_options.cell={RESIDUAL}"
    written = json.loads(numbers.read_text())
    assert written["cell"] == RESIDUAL
    assert written["naslib"] == [2, 1, 0, 2, 1, 0]
    assert written["skips"] == 2
    assert written["table"] == "table.csv"
    # 7,783,050 + 2 * 35,389,440 FLOPs with 10 classes on 32 x 32 pixels
    assert written["datasets"]["cifar10"] == {
        "accuracy": 0.9391,
        "rank": 2,
        "cells": 5,
        "percentile": 80,
        "regret": 0.004633,
        "flops": 78_561_930,
        "parameters": 559_386,
    }
    # a quarter of the pixels: the convolutions of 10 classes less their linear layer, and one for 120 classes
    assert written["datasets"]["imagenet16-120"]["flops"] == (78_561_930 - 650) // 4 + 65 * 120


def test_an_unknown_data_set_has_no_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "table.csv", f"{RESIDUAL},50", head="arch,mine_test")
    assert main(["nas-score", RESIDUAL, "--table", str(table), "--json", str(tmp_path / "a.json")]) == 0
    assert "1 of 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["datasets"]["mine"]["flops"] is None


def test_the_cell_that_a_search_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "table.csv")
    (tmp_path / "run").mkdir()
    assert main(["nas-score", str(tmp_path / "run"), "--table", str(table)]) == 2
    assert "has found no cell" in capsys.readouterr().err
    records = [{"kind": "validation", "step": step, "cell": ROWS[step].partition(",")[0]} for step in (0, 1)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["nas-score", str(tmp_path / "run"), "--table", str(table)]) == 0
    assert RESIDUAL in capsys.readouterr().out


def test_what_a_search_measured_is_shown_without_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"images": 100, "skips": 2, "flops": 363_690, "parameters": 11_054, "kendall_tau": 0.26}
    trained = {"dataset": "digits-hard", "rank": 155, "scratch": [0.78, 0.65], "scratch_accuracy": 0.715}
    record = {"kind": "test", "step": 300, "cell": RESIDUAL, **found, **trained}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert main(["nas-score", str(tmp_path), "--json", str(tmp_path / "score.json")]) == 0
    printed = capsys.readouterr().out
    assert RESIDUAL in printed
    assert "71.50 %, which is rank 155 in digits-hard" in printed
    assert json.loads((tmp_path / "score.json").read_text())["rank"] == 155


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|", "unknown operation 'conv'"),
        (RESIDUAL.replace("skip_connect", "skip_conect"), "(did you mean skip_connect?)"),
        (RESIDUAL[1:], "is no architecture of NAS-Bench-201; write |op~0|+"),
        ("2,1,0,2,1", "the list of NASLib is [2, 1, 0, 2, 1]; give 6 numbers"),
        ("2,1,0,2,1,5", "give 6 numbers from 0 to 4"),
        ("runs/none", "'runs/none' is no folder, no architecture such as |nor_conv_3x3~0|"),
        ("", "ARCH is empty text"),
        ("4,4,4,4,4,4", "table.csv has 5 cells, but not |avg_pool_3x3~0|"),
    ],
)
def test_wrong_architectures_are_one_line(
    architecture: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "table.csv")
    assert main(["nas-score", architecture, "--table", str(table)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "none.csv"], "no table 'none.csv'"),
        (["--table", "{tmp}"], "has no meta.pickle.pbz2"),
        (["--table", "{tmp}/table.csv", "--json", "{tmp}"], "is a folder; name a file in it"),
        (["--table", "{tmp}/other.csv"], "other.csv, line 2: unknown operation 'sep_conv_3x3'"),
        ([], "--table is missing: a table of trained cells; give a CSV file"),
    ],
)
def test_wrong_tables_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "table.csv")
    write_table(tmp_path / "other.csv", ROWS[0].replace("skip_connect", "sep_conv_3x3"))
    assert main(["nas-score", RESIDUAL, *(word.format(tmp=tmp_path) for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
