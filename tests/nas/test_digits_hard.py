"""The table of the package: that of the recipe, and one that tells cells apart."""

import csv
from statistics import fmean, pstdev

import pytest

from robustsabn.nas import Cell
from robustsabn.nas.agreement import kendall_tau, spearman_rho
from robustsabn.nas.sources import PACKAGED, open_table
from robustsabn.trainers.nas.cell_table import LANDMARKS, choose_cells, settings_of
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.division import divide
from robustsabn.trainers.tasks import load_config

LINES = PACKAGED["digits-hard"].read_text(encoding="utf-8").splitlines()
ROWS = list(csv.DictReader(line for line in LINES if not line.startswith("#")))
SEEDS = [[float(row[f"digits-hard_test_seed{i}"]) for row in ROWS] for i in (0, 1)]


def test_it_was_made_in_the_setting_of_the_recipe_by_the_command_in_its_first_line() -> None:
    config = load_config("nas-digits")
    assert isinstance(config, NasConfig)
    assert settings_of(config, divide(config)) == LINES[1]
    assert LINES[0].endswith(": robustsabn nas-table nas-digits --cells 200 --out digits-hard.csv")
    table = open_table("digits-hard")
    assert list(table.cells) == choose_cells(200)
    for cell, row, *seeds in zip(table.cells, ROWS, *SEEDS, strict=True):
        assert Cell.parse(row["arch"]) == cell
        assert table.accuracy(cell, "digits-hard") == pytest.approx(fmean(seeds), abs=1e-4)
        for accuracy in seeds:  # a whole number of 355 images
            assert accuracy * 3.55 == pytest.approx(round(accuracy * 3.55), abs=1e-3)


def test_cells_differ_more_than_seeds_do() -> None:
    """So that a rank in it means something: the seeds rank alike, which no chance does."""
    n = len(ROWS)
    tau, rho = kendall_tau(*SEEDS), spearman_rho(*SEEDS)
    # without agreement tau has the standard deviation sqrt(2 (2n + 5) / 9n (n - 1)), and rho 1 / sqrt(n - 1)
    assert tau > 5 * (2 * (2 * n + 5) / (9 * n * (n - 1))) ** 0.5
    assert rho > 5 / (n - 1) ** 0.5
    noise = pstdev([a - b for a, b in zip(*SEEDS, strict=True)]) / 2**0.5
    assert min(map(pstdev, SEEDS)) > 2 * noise


def test_it_is_hard() -> None:
    """No operation is chance, skips are far behind 3x3 convolutions, and few cells are at the top."""
    table = open_table("digits-hard")
    none, skips, convolutions = (table.accuracy(cell, "digits-hard") for cell in LANDMARKS)
    assert none == pytest.approx(10, abs=1)
    assert skips < 60
    assert convolutions > 80
    accuracies = sorted(table.accuracy(cell, "digits-hard") for cell in table.cells)
    assert accuracies[len(accuracies) // 10] < 70
    assert accuracies[-1] < 98
