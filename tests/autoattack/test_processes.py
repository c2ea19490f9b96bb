"""AutoAttack over processes, and killed without warning: the same report."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT
from tests.helpers.attacks.evaluate_worker import evaluate
from tests.helpers.processes import apart


def run(
    out: Path, *, resume: bool = False, processes: int = 1, how: str = "quick"
) -> dict[str, torch.Tensor]:
    out.mkdir(exist_ok=True)
    code, output = apart(evaluate, out, resume, how, place=out.parent, processes=processes)
    assert code == 0, output[-3000:]
    found: dict[str, torch.Tensor] = torch.load(out / "report.pt", weights_only=True)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return run(tmp_path_factory.mktemp("whole"))


def same(found: dict[str, torch.Tensor], whole: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(found[name], whole[name]) for name in whole)


def test_two_processes_give_the_report_of_one(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    assert 0 < int(whole["robust"].sum()) < 90
    assert same(run(tmp_path, processes=2), whole)
    parts = sorted((tmp_path / "journal").glob("part-*.bin"))
    assert len(parts) == 2
    assert all(part.stat().st_size > 0 for part in parts)
    cost = json.loads((tmp_path / "report.json").read_text())["attacks"][0]
    assert cost["points"] == int(whole["clean"].sum())  # each point once, none padded
    told = [tuple(map(int, line.split())) for line in (tmp_path / "told.txt").read_text().splitlines()]
    for index in (0, 1):
        of_attack = [(left, robust) for number, left, robust in told if number == index]
        assert [left for left, _ in of_attack] == sorted((left for left, _ in of_attack), reverse=True)
        remaining = int((whole["clean"] & ~((whole["broken_by"] >= 0) & (whole["broken_by"] <= index))).sum())
        assert of_attack[-1] == (0, remaining)  # of both processes


def test_processes_agree_about_a_random_model_and_never_vote_twice(tmp_path: Path) -> None:
    found = run(tmp_path, processes=2, how="random")
    assert 0 < int(found["robust"].sum()) < int(found["clean"].sum())
    for again in (found, run(tmp_path, resume=True, processes=2, how="random")):
        assert same(again, found)
        for rank in (0, 1):
            assert same(torch.load(tmp_path / f"{rank}.pt", weights_only=True), found)


@pytest.mark.parametrize(
    "lines", [pytest.param(1, marks=pytest.mark.slow), 6, pytest.param(14, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_and_resumed(whole: dict[str, torch.Tensor], tmp_path: Path, lines: int) -> None:
    command = [sys.executable, "-m", "tests.helpers.attacks.evaluate_worker", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "report.pt").exists()
    before = sum(part.stat().st_size for part in (tmp_path / "journal").glob("part-*.bin"))
    assert before > 0
    assert same(run(tmp_path, resume=True, processes=2 if lines == 6 else 1), whole)
