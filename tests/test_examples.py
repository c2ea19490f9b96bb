"""The examples run, at a small size."""

import runpy
import sys
from pathlib import Path

import pytest

from robustsabn.trainers import load_run_config

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
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


def test_own_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["own_method.py", *TINY, "method.weight=0.25"])
    runpy.run_path(str(EXAMPLES / "own_method.py"), run_name="__main__")
    run = tmp_path / "runs" / "logit-pairing"
    assert "weight: 0.25" in (run / "config.yaml").read_text()
    assert load_run_config(run).steps == 2
    assert "clean images" in capsys.readouterr().out


def test_every_example_is_tested() -> None:
    assert [file.name for file in EXAMPLES.glob("*.py")] == ["own_method.py"]
