"""A task of one's own, the one of docs/tasks.md: two networks, two optimisers, a route for every sample."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.cli import main
from robustsabn.errors import ConfigError
from robustsabn.trainers import compare, sweep, train
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.tasks import load_config, task_class
from tests.helpers import ROOT

PAGE = ROOT / "docs" / "tasks.md"
TOY = {
    "task": "toy.py:ToyGan",
    "images": 64,
    "batch_size": 16,
    "epochs": 2,
    "checkpoint_every": 3,
    "validation": {"images": 16},
    "log_every": 2,
    "device": "cpu",
}
KILLED = """
import json, os, signal, sys
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.tasks import load_config, task_class

class Killed(task_class(load_config(json.loads(sys.argv[1])))):
    def step(self, step):
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(step)

config = load_config(json.loads(sys.argv[1]))
run(config, Killed, resume=len(sys.argv) > 3)
"""


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = re.search(
        r"^```python title=\"toy.py\"\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert source is not None
    Path("toy.py").write_text(source[1], encoding="utf-8")


def same(a: str, b: str) -> None:
    for name in ("best", "last"):
        first, second = (read(Path(folder) / "checkpoints", name) for folder in (a, b))
        assert set(first.tensors) == set(second.tensors)
        torch.testing.assert_close(first.tensors, second.tensors, rtol=0, atol=0)
        assert first.state["step"] == second.state["step"]
    records = [
        [
            {key: value for key, value in json.loads(line).items() if key != "images_per_second"}
            for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (a, b)
    ]
    assert records[0] == records[1]


def test_it_trains_and_keeps_both_networks_and_both_optimisers() -> None:
    result = train({**TOY, "out": "run"})
    assert result.steps == 8
    assert result.evaluation.distance < 10
    stored = read(Path("run/checkpoints"), "last")
    networks = {"generator", "discriminator"}
    assert set(stored.tensors) == networks | {f"optimizer-{name}" for name in networks}
    assert stored.tensors["generator"]["norm.route_weight"].shape == (10, 16)
    assert "task: toy.py:ToyGan" in Path("run/config.yaml").read_text()


def test_a_run_that_fails_resumes_to_the_bit() -> None:
    train({**TOY, "out": "whole"})
    config: Any = load_config({**TOY, "out": "cut"})

    class Failing(task_class(config)):  # type: ignore[misc]
        def step(self, step: int) -> dict[str, Tensor]:
            if step == 5:
                raise MemoryError
            logged: dict[str, Tensor] = super().step(step)
            return logged

    with pytest.raises(MemoryError):
        run(config, Failing)
    train("cut/config.yaml", resume=True)
    same("whole", "cut")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_resumes_to_the_bit(processes: int) -> None:
    Path("killed.py").write_text(KILLED, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    launch = launch if processes > 1 else [sys.executable]

    def started(out: str, *more: str) -> int:
        config = json.dumps({**TOY, "out": out})
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*launch, "killed.py", config, *more]
        return subprocess.run(
            command, check=False, env=environment, capture_output=True, timeout=300
        ).returncode

    assert started("whole", "-1") == 0
    step = int(torch.randint(4, 8, ()))
    assert started("cut", str(step)) != 0
    assert started("cut", "-1", "resume") == 0
    same("whole", "cut")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("adversarail", "did you mean adversarial"),
        ("toy.py:Generator", "no subclass"),
        ("gone.py:Task", "no such file"),
        (3, "task: 3 is unknown"),
    ],
)
def test_what_is_no_task_is_refused(task: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config({**TOY, "task": task})


def test_another_task_does_not_resume_the_run() -> None:
    train({**TOY, "out": "run"}, ["steps=2"])
    with pytest.raises(ConfigError):
        train({"out": "run", "device": "cpu"}, resume=True)


def test_its_runs_are_compared_and_have_pages(capsys: pytest.CaptureFixture[str]) -> None:
    sweep({**TOY, "out": "toys"}, ["steps=2"], seeds=(0, 1))
    train({**TOY, "out": "fast"}, ["steps=2", "generator.lr=0.01"])
    assert main(["compare", "toys", "fast", "--html", "table.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("distance of the mean image" in line and "training time" in line for line in lines)
    (row,) = [[cell.strip() for cell in line.split("│")] for line in lines if "generator.lr=0.001" in line]
    assert row[2] == "2"
    assert "±" in row[3]
    (slow, fast) = compare(["toys", "fast"]).groups
    assert len(slow.runs[0].courses["distance"]) == 1
    spread = fast.spread("distance")
    assert spread is not None
    assert spread.deviation is None
    assert spread.mean == fast.runs[0].evaluation.distance
    assert Path("table.html").read_text(encoding="utf-8").count("<svg") == 1
    page = write_run_page("fast").read_text(encoding="utf-8")
    for text in (
        "Run fast",
        "toy.py:ToyGan on digits",
        "At the end of training, best checkpoint",
        "lr: 0.01",
    ):
        assert text in page, text
    assert page.count("<svg") == 2  # the distance at each validation, the losses


def test_runs_of_another_task_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    train({**TOY, "out": "toy"}, ["steps=1"])
    train(
        {
            "images": 20,
            "batch_size": 10,
            "steps": 1,
            "attack": {"steps": 1},
            "validation": {"images": 4, "steps": 1},
            "test": {"images": 4, "steps": 1},
            "device": "cpu",
            "out": "classifier",
        }
    )
    capsys.readouterr()
    for words in (
        ["evaluate", "toy"],
        ["export", "toy", "--out", "net.onnx"],
        ["autoattack", "--model", "toy", "--data", "digits", "--norm", "Linf", "--eps", "0.1"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "toy is a run of the task 'toy.py:ToyGan', not of adversarial training" in said
        assert said.count("\n") == 1
    assert main(["compare", "toy", "classifier"]) == 2
    said = capsys.readouterr().err
    assert "toy is of 'toy.py:ToyGan', classifier is of 'adversarial'" in said
    assert said.count("\n") == 1


def test_what_ended_is_shown_and_not_measured_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = train({**TOY, "out": "run"}, ["steps=2"])
    capsys.readouterr()
    again = train({**TOY, "out": "run"}, ["steps=2"], resume=True)
    assert again.evaluation == first.evaluation
    said = capsys.readouterr().out
    assert "nothing is computed" in said
    assert "distance of the mean image" in said
