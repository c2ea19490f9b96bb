"""Every method, killed by kill -9 at some step on one process and on two, resumes bit for bit."""

import random
from pathlib import Path
from typing import Any

import pytest

from robustsabn.trainers.methods import METHODS
from tests.helpers.launch import launch
from tests.helpers.runs import of_method, same

pytestmark = pytest.mark.slow  # one launch for each method and number of processes

STEPS = 8
Case = tuple[Path, int]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Uninterrupted runs of every method, and interrupted ones that went on."""
    place, processes = tmp_path_factory.mktemp("runs"), int(request.param)
    whole = [{"config": config(place, name, "whole")} for name in METHODS]
    code, output = launch(whole, place, processes)
    assert code == 0, output
    for name in METHODS:
        step = random.Random(f"{name} {processes}").randrange(4, STEPS)  # after the first checkpoint
        code, output = launch([{"config": config(place, name, "cut"), "die": step}], place, processes)
        assert code != 0, f"{name}, to be killed at step {step}: {output}"
    code, output = launch([{**job, "resume": True} for job in cut_jobs(place)], place, processes)
    assert code == 0, output
    return place, processes


def config(place: Path, method: str, kind: str) -> dict[str, Any]:
    return {**of_method(method), "out": str(place / f"{method}-{kind}")}


def cut_jobs(place: Path) -> list[dict[str, Any]]:
    return [{"config": config(place, name, "cut")} for name in METHODS]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_resumes_to_the_bit(runs: Case, method: str) -> None:
    place, _ = runs
    same(place / f"{method}-cut", place / f"{method}-whole")
