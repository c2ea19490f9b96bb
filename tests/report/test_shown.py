"""Results as one line, as a table in a notebook, and as a data frame."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.attacks import AutoAttack, ThreatModel
from robustsabn.errors import MissingExtraError
from robustsabn.report.shown import Shown
from robustsabn.trainers import Evaluation, RunResult

EVALUATION = Evaluation(
    n=40,
    clean={"clean": 0.9, "adv": 0.85},
    robust={"adv": {"clean": 0.4, "adv": 0.6}},
    attack="pgd-20",
    norm="Linf",
    eps=8 / 255,
    autoattack={"adv": 0.5},
    autoattack_n=40,
)
RESULT = RunResult(folder=Path("runs/a"), steps=9, best_step=6, evaluation=EVALUATION)


@dataclass(frozen=True, repr=False)
class Odd(Shown):
    """A result with a name that is no HTML."""

    @property
    def summary(self) -> str:
        return "<b>"

    def rows(self) -> Any:
        return ("name", "robust_accuracy", "seconds", "n"), [["a&b", 0.5, 61.0, 3], ["c", None, None, 4]]


def test_results_are_one_line() -> None:
    words = "clean 90.00 %, pgd-20 60.00 %, 40 test images, Linf eps 8/255"
    assert repr(EVALUATION) == f"Evaluation({words})"
    assert repr(RESULT) == f"RunResult(runs/a, step 6 of 9: {words})"


def test_a_notebook_shows_a_table_with_everything_escaped() -> None:
    page = Odd()._repr_html_()
    assert "<td>a&amp;b</td><td>50.00 %</td><td>1 min 01 s</td><td>3</td>" in page
    assert "<td>c</td><td></td><td></td><td>4</td>" in page
    assert "Odd: &lt;b&gt;" in page
    assert "<th>robust accuracy</th>" in page


def test_rows_have_every_accuracy() -> None:
    head, rows = EVALUATION.rows()
    assert head == ("images", "attacked_through", "scored_through", "accuracy")
    assert rows == [
        ["clean images", None, "clean", 0.9],
        ["clean images", None, "adv", 0.85],
        ["pgd-20", "adv", "clean", 0.4],
        ["pgd-20", "adv", "adv", 0.6],
        ["autoattack", "adv", "adv", 0.5],
    ]
    assert RESULT.rows()[1] == [["best", 0.9, 0.6, 0.85]]


def test_a_report_has_a_row_for_each_attack_and_a_frame_for_each_sample() -> None:
    model = torch.nn.Linear(4, 3).requires_grad_(False)
    x = torch.linspace(0, 1, 24).reshape(6, 4)
    y = model(x).argmax(1)
    report = AutoAttack(ThreatModel("L2", 0.2), version="custom", attacks=["apgd-ce"])(model, x, y)
    assert repr(report).startswith("Report(clean 100.00 %, robust ")
    assert [row[0] for row in report.rows()[1]] == ["clean images", "apgd-ce"]
    pytest.importorskip("pandas")
    frame = report.to_frame()
    assert frame["id"].tolist() == list(range(6))
    assert frame["robust"].tolist() == report.robust.tolist()
    assert frame["broken_by"].notna().sum() == int((~report.robust & report.clean).sum())


def test_pandas_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robustsabn\[pandas\]'"):
        EVALUATION.to_frame()
