"""`robustsabn nas-table`: cells trained as a search trains the one that it finds; continued after a kill."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.cli import main
from robustsabn.errors import UsageError
from robustsabn.nas import Cell, all_cells, read_table
from robustsabn.trainers.nas import cell_table
from robustsabn.trainers.nas.cell_table import LANDMARKS, agreement_of_seeds, choose_cells, make_table
from robustsabn.trainers.nas.config import NasConfig, NasTest
from robustsabn.trainers.nas.division import divide
from robustsabn.trainers.nas.scratch import accuracy_from_scratch
from robustsabn.trainers.tasks import load_config

SMALL: dict[str, Any] = {
    "task": "nas",
    "data": "digits",
    "images": 20,
    "channels": 2,
    "cells": 1,
    "reduction": "pool",
    "batch_size": 10,
    "device": "cpu",
    "test": {"epochs": 1, "seeds": 2},
}
CELLS = [*LANDMARKS, Cell((2,) * 6)]


def config(**changes: Any) -> NasConfig:
    loaded = load_config({**SMALL, **changes})
    assert isinstance(loaded, NasConfig)
    return loaded


def test_the_cells_are_different_and_drawn_by_seed() -> None:
    cells = choose_cells(200)
    assert len(set(cells)) == 203
    assert tuple(cells[:3]) == LANDMARKS
    assert {tuple(set(cell.operations)) for cell in LANDMARKS} == {(0,), (1,), (3,)}
    assert choose_cells(200) == cells != choose_cells(200, seed=1)
    assert set(choose_cells(len(all_cells()) - 3)) == set(all_cells())
    with pytest.raises(UsageError, match="--cells is -1; give 0 to 15622"):
        choose_cells(-1)


def test_accuracies_are_those_of_each_cell_trained_alone(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    table = make_table(config(), CELLS, path, "robustsabn nas-table")
    assert table.datasets == ("small",)
    assert table.cells == tuple(CELLS)
    rows = list(csv.DictReader(line for line in path.read_text().splitlines() if line[0] != "#"))
    division = divide(config())
    for cell, row in zip(CELLS, rows, strict=True):
        seeds = [
            100 * accuracy_from_scratch(config(), division, cell, seed, torch.device("cpu"))
            for seed in (0, 1)
        ]
        assert [float(row[f"small_test_seed{i}"]) for i in (0, 1)] == pytest.approx(seeds, abs=5e-5)
        assert float(row["small_test"]) == pytest.approx(sum(seeds) / 2, abs=5e-5)
    # without operations every image has the same logits
    assert table.accuracy(LANDMARKS[0], "small") == pytest.approx(100 / 10, abs=1)


def test_the_header_says_how_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    make_table(config(), CELLS[:1], path, "robustsabn nas-table mine.yaml")
    first, second = path.read_text().splitlines()[:2]
    assert first.endswith(": robustsabn nas-table mine.yaml")
    settings = json.loads(second.removeprefix("# settings: "))
    assert settings["training_images"] == 20
    assert settings["test_images"] == len(divide(config()).test)
    assert (settings["epochs"], settings["seeds"], settings["reduction"]) == (1, 2, "pool")


def test_it_continues_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "small.csv", tmp_path / "whole" / "small.csv"
    trained: list[Cell] = []

    def dying(config: NasConfig, division: Any, cell: Cell, seed: int, device: torch.device) -> float:
        trained.append(cell)
        if len(trained) == 6:  # the second seed of the third cell
            raise KeyboardInterrupt
        return accuracy_from_scratch(config, division, cell, seed, device)

    monkeypatch.setattr(cell_table, "accuracy_from_scratch", dying)
    with pytest.raises(KeyboardInterrupt):
        make_table(config(), CELLS, path, "x")
    assert read_table(path).cells == tuple(CELLS[:2])
    assert [file.name for file in tmp_path.iterdir()] == ["small.csv"]
    make_table(config(), CELLS, path, "x")
    assert trained[6:] == [CELLS[2], CELLS[2], CELLS[3], CELLS[3]]
    make_table(config(), CELLS, whole, "x")
    assert path.read_bytes() == whole.read_bytes()


def test_the_agreement_of_seeds(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{cell},0,{a},{b}" for cell, a, b in zip(CELLS, (10, 30, 20, 40), (1, 3, 2, 4), strict=True)]
    path.write_text("\n".join(["# settings", "arch,t_test,t_test_seed0,t_test_seed1", *rows]))
    assert agreement_of_seeds(path) == 1
    path.write_text("\n".join(["arch,t_test,t_test_seed0", *(row.rpartition(",")[0] for row in rows)]))
    assert agreement_of_seeds(path) is None


def test_another_setting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    make_table(config(), CELLS[:1], path, "x")
    content = path.read_bytes()
    with pytest.raises(UsageError, match=r"small.csv was made in another setting; choose another --out"):
        make_table(config(test=NasTest(epochs=2)), CELLS, path, "x")
    assert path.read_bytes() == content


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "new" / "small.csv"
    recipe.write_text(json.dumps(SMALL))
    words = [
        "nas-table",
        str(recipe),
        "test.seeds=1",
        "--cells",
        "1",
        "--arch",
        "3,3,3,3,3,3",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "test accuracy of 5 cells" in printed
    assert "only 3x3 convolutions" in printed
    assert "Kendall's tau" not in printed  # of one seed
    assert printed.endswith(f"next: robustsabn train {recipe} table={out}\n")
    assert f"robustsabn {' '.join(words)}" in out.read_text()
    assert main(["nas-score", "3,3,3,3,3,3", "--table", str(out)]) == 0
    assert "of 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits"], "digits is no search; give a recipe such as nas-digits"),
        (
            ["nas-cifar10-darts-bn", "data=digits"],
            "test.epochs is none; give the epochs to train each cell for",
        ),
        (["nas-cifar10-darts-bn", "--arch", "|conv~0|"], "unknown operation 'conv'"),
        (["nas-cifar10-darts-bn", "--cells", "20000"], "--cells is 20000; give 0 to 15622"),
        (["none"], "no recipe 'none'"),
    ],
)
def test_wrong_commands_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nas-table", *words, "--out", str(tmp_path / "t.csv")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
