"""The examples run, at a small size."""

import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from robustsabn.trainers import load_run_config
from robustsabn.trainers.methods import METHODS
from tests.helpers import ROOT
from tests.helpers.runs import metrics

EXAMPLES = ROOT / "examples"
TINY = [
    "steps=2",
    "batch_size=8",
    "attack.steps=1",
    "validation.images=8",
    "validation.steps=1",
    "test.images=8",
    "test.steps=1",
    "test.autoattack=none",
    "device=cpu",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example was run in."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(METHODS):
        patch.chdir(place)
        patch.setattr(sys, "argv", ["own_method.py", *TINY, "method.weight=0.25"])
        runpy.run_path(str(EXAMPLES / "own_method.py"), run_name="__main__")
    return place


def test_own_method(place: Path) -> None:
    run = place / "runs" / "logit-pairing"
    assert "weight: 0.25" in (run / "config.yaml").read_text()
    assert load_run_config(run).steps == 2
    (closing,) = (entry for entry in metrics(run) if entry["kind"] == "test")
    assert 0 < closing["n"] <= 8


AFTERWARDS = """
import sys
from robustsabn.cli import main
from robustsabn.trainers import compare, load_run_model
from robustsabn.trainers.methods import METHODS

example, *tiny = sys.argv[1:]
run = "runs/logit-pairing"
for line in (
    ["evaluate", run, "--attack", "pgd-1", "--n", "8"],
    ["report", run],
    ["export", run, "--route", "adv", "--out", "net.safetensors"],
):
    assert main(line) == 0, line
assert load_run_model(run).training is False
assert "logit-pairing" not in METHODS
named = f"{example}:LogitPairing"
assert main(["train", "digits", f"method={named}", "method.weight=0.25", "out=runs/named", *tiny]) == 0
assert main(["train", "runs/named/config.yaml", "steps=3", "--resume"]) == 0
METHODS.clear()
found = compare(["runs"])
assert not found.skipped
assert {g.differing["method"]: g.runs[0].settings["method.weight"] for g in found.groups} == {
    "logit-pairing": 0.25, named: 0.25
}
"""


def test_another_process_reads_that_run_and_trains_by_the_name_of_the_class(place: Path) -> None:
    example = str(EXAMPLES / "own_method.py")
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS, example, *TINY],
        check=False,
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"name: {example}:LogitPairing" in (place / "runs" / "named" / "config.yaml").read_text()


def test_every_example_is_tested() -> None:
    assert [file.name for file in EXAMPLES.glob("*.py")] == ["own_method.py"]
