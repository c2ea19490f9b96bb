"""Evaluations of searches: their numbers, tables, records and pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from robustsabn.config import load
from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.nas import EDGES, Cell
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.pictures import NAMES, cell_graph, weights_over_epochs
from robustsabn.trainers.nas.results import RESULTS, NasEvaluation, found_cell
from robustsabn.trainers.nas.scoring import Judge, sample_cells
from tests.helpers.nas.tiny_search import made_up, write_table

SKIPS, CONVOLUTIONS = Cell((1,) * 6), Cell((3,) * 6)


def judge(tmp_path: Path, every: int = 1, **changes: Any) -> Judge:
    table = write_table(tmp_path / "table.csv", every)
    return Judge(load(NasConfig, {"data": "digits", "table": table, **changes}))


def evaluation(**changes: Any) -> NasEvaluation:
    return NasEvaluation(
        **{"cell": str(SKIPS), "images": 20, "skips": 6, "flops": 7_783_050, "parameters": 73_306, **changes}
    )


def test_the_sample_of_cells_is_the_same_in_every_run_and_has_no_cell_twice(tmp_path: Path) -> None:
    first, second = (judge(tmp_path, seed=seed).cells for seed in (0, 1))
    assert first == second
    assert len(set(first)) == len(first) == 100
    assert set(sample_cells(first, 10)) < set(first)
    few = judge(tmp_path, every=1000).cells
    assert len(few) == 16


def test_agreement_is_one_for_the_table_itself_and_minus_one_for_its_reverse(tmp_path: Path) -> None:
    own = judge(tmp_path)
    assert own.agreement([made_up(cell) for cell in own.cells]) == {
        "kendall_tau": pytest.approx(1),
        "spearman_rho": pytest.approx(1),
        "cells": 100,
    }
    assert own.agreement([-made_up(cell) for cell in own.cells])["kendall_tau"] == pytest.approx(-1)


def test_a_cell_is_placed_on_every_data_set(tmp_path: Path) -> None:
    found = judge(tmp_path, dataset="other").place(SKIPS)
    accuracy = made_up(SKIPS)
    assert found["table_accuracy"] == pytest.approx((90 - accuracy) / 100)
    assert found["placed"]["digits"]["accuracy"] == pytest.approx(accuracy / 100)
    assert {place["cells"] for place in found["placed"].values()} == {15_625}
    rows = RESULTS.table(evaluation(**found), "best checkpoint")
    console = Console(width=200)
    with console.capture() as shown:
        console.print(rows)
    text = shown.get()
    assert "digits, test accuracy in the table" in text
    assert f"rank {found['placed']['digits']['rank']:,} of 15,625" in text
    assert "7.78 M" in text
    assert "73,306" in text


def test_a_table_without_the_cell_places_nothing_and_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    assert judge(tmp_path, every=1000).place(Cell((1, 1, 1, 1, 1, 2))) == {}
    with pytest.raises(ConfigError, match=r"dataset: 'digit' is not in the table \(did you mean digits\?\)"):
        judge(tmp_path, dataset="digit")
    with pytest.raises(ConfigError, match=r"the table has digits, other; give dataset=NAME"):
        judge(tmp_path, data="npz:x.npz")


def test_an_evaluation_survives_its_record() -> None:
    whole = evaluation(kendall_tau=0.5, scratch=(0.5, 0.6), scratch_accuracy=0.55, accuracy=0.4)
    record = {"kind": "test", "step": 3, **json.loads(json.dumps(whole.to_dict()))}
    again = RESULTS.closing([record])
    assert again is not None
    assert again.numbers() == whole.numbers()
    assert set(evaluation().numbers()) == {"skips", "flops", "parameters"}


def test_the_found_cell_is_that_of_the_last_record(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has found no cell"):
        found_cell(tmp_path)
    cells = [SKIPS, CONVOLUTIONS]
    lines = [json.dumps({"kind": "validation", "step": i, "cell": str(cell)}) for i, cell in enumerate(cells)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, json.dumps({"kind": "train", "step": 2})]))
    assert found_cell(tmp_path) == CONVOLUTIONS


def test_the_heat_map_shows_the_weights_of_each_edge() -> None:
    history = np.random.default_rng(0).random((7, 6, 5))
    panels = weights_over_epochs(range(7), history.tolist()).axes[: len(EDGES)]
    for edge, panel in enumerate(panels):
        shown: Any = panel.images[0].get_array()
        assert np.array_equal(shown, history[:, edge].T)
    assert panels[0].get_title() == "node 0 to node 1"


def test_the_graph_names_the_operation_of_each_edge() -> None:
    texts = [text.get_text() for text in cell_graph(Cell((3, 2, 1, 4, 0, 3))).axes[0].texts]
    assert texts[:6] == [NAMES[i] for i in (3, 2, 1, 4, 0, 3)]
    assert texts[6:] == ["input", "1", "2", "output"]
