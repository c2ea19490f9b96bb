"""The bars of a run: training, and each evaluation by itself; lines where nothing can be redrawn."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from rich.console import Console

from robustsabn.report import console as shown
from robustsabn.trainers import train
from robustsabn.trainers.runs.monitor import Monitor
from tests.helpers.runs import TINY


def monitor(tmp_path: Path, active: bool = True) -> Monitor:
    return Monitor(tmp_path / "metrics.jsonl", tmp_path / "tb", 10, 0, active)


def test_an_evaluation_has_a_bar_of_its_own(tmp_path: Path) -> None:
    log = monitor(tmp_path)
    with log.running():
        log.advance(10, "loss 1")
        with log.counting("40 images, pgd-20", 880) as count:
            count(400)
            training, evaluation = log.progress.tasks
            assert (training.description, training.completed) == ("training", 10)
            assert (evaluation.description, evaluation.completed) == ("40 images, pgd-20", 400)
            count(900)
            assert log.progress.tasks[1].completed == 880  # a search may take more passes than planned
        assert len(log.progress.tasks) == 1
        log.show("autoattack: fab-t", 3, 90, "2 images left")
        assert log.progress.tasks[-1].total == 90
        log.hide()
        log.hide()
        assert len(log.progress.tasks) == 1


def test_without_a_terminal_there_is_a_line_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = monitor(tmp_path)
    with log.running():
        log.show("autoattack: square", 5, 90, "2 images left")
        log.spoken -= 61
        log.show("autoattack: square", 6, 90, "2 images left")
        log.show("autoattack: square", 7, 90, "2 images left")
    assert capsys.readouterr().out == "autoattack: square: 6 of 90  2 images left\n"


def test_other_processes_show_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = monitor(tmp_path, active=False)
    with log.running(), log.counting("40 images", 10) as count:
        count(3)
    log.hide()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("widgets", "moves"), [(None, False), ("ipywidgets", True)])
def test_bars_move_in_notebooks_with_ipywidgets(
    monkeypatch: pytest.MonkeyPatch, widgets: str | None, moves: bool
) -> None:
    monkeypatch.setattr(shown, "find_spec", lambda name: widgets)
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    assert shown.moves(notebook) is moves
    assert shown.progress_bar(notebook).disable is not moves
    assert not shown.moves(Console(file=io.StringIO()))
    assert shown.moves(Console(file=io.StringIO(), force_terminal=True))


def test_bars_name_the_images_that_are_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    counting = Monitor.counting

    def noted(self: Monitor, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        named.append(what)
        return counting(self, what, total)

    monkeypatch.setattr(Monitor, "counting", noted)
    train({**TINY, "steps": 1, "out": str(tmp_path / "run")})
    parts = {"357 validation images, pgd-1", "32 training images, pgd-1", "40 test images, pgd-1"}
    assert parts == set(named)
